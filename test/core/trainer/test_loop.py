"""The training loop: it learns, resumes bit-exactly, stops cleanly, and never leaves half a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from street_images import write_street_images
from tiny_network import TINY

from hrda_core.data.augmentation.transforms import CropConfig
from hrda_core.errors import CheckpointError, DataError, RecipeError, TrainingError
from hrda_core.models import create_model
from hrda_core.models.finite_weights import not_finite
from hrda_core.trainer import loop
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, load_checkpoint
from hrda_core.trainer.loading import load_network
from hrda_core.trainer.loop import Progress, Watch, fit
from hrda_core.trainer.methods import finish_step, take_step
from hrda_core.trainer.optim import OptimConfig
from hrda_core.trainer.recipe import ModelConfig, Recipe, RuntimeConfig
from hrda_core.trainer.recipe_data import SourceConfig, TargetConfig, ValidationConfig
from hrda_core.uda.domain_generalization import DgConfig
from hrda_core.uda.feature_distance import FeatureDistanceConfig
from hrda_core.uda.masked_consistency import MicConfig
from hrda_core.uda.self_training import SelfTrainingConfig


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    images, labels = write_street_images(tmp_path / "data", count=4)
    return Recipe(
        name="tiny",
        source=SourceConfig("made up", images=images, labels=labels, rcs_min_pixels=100),
        model=ModelConfig(overrides=TINY, imagenet=False, allow_random_backbone=True),
        crop=CropConfig(64, 64),
        optim=OptimConfig(lr=1e-3, warmup=2),
        iterations=6,
        average=0.9,
        checkpoint_every=2,
    )


def _adapting(recipe: Recipe, method: str = "self_training") -> Recipe:
    mic = MicConfig(block=16)
    return replace(
        recipe,
        method=method,  # type: ignore[arg-type]
        target=TargetConfig("made up too", path=recipe.source.images),
        self_training=SelfTrainingConfig(threshold=0.05, mic=mic),
        feature_distance=FeatureDistanceConfig(weight=0.005),
        generalization=DgConfig(prototypes=3, prototype_every=4),
    )


METHODS: dict[str, Callable[[Recipe], Recipe]] = {
    "supervised": lambda recipe: recipe,
    "self_training": _adapting,
    "domain_generalization": lambda recipe: _adapting(recipe, "domain_generalization"),
    "entropy": lambda recipe: _adapting(recipe, "entropy"),
    "adversarial": lambda recipe: _adapting(recipe, "adversarial"),
}


def _logged(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["losses"] | line["metrics"] for line in lines]


def _stop_after(steps: int) -> Watch:
    calls = iter(range(1000))
    return Watch(should_stop=lambda: next(calls) + 1 >= steps)


def test_the_loss_goes_down(recipe: Recipe, tmp_path: Path) -> None:
    seen: list[Progress] = []
    fit(replace(recipe, iterations=25), tmp_path / "run", watch=Watch(progress=seen.append))
    first, last = (sum(p.loss for p in part) for part in (seen[:5], seen[-5:]))
    assert last < 0.8 * first  # 0.72 to 0.76 for 20 seeds


@pytest.mark.parametrize(("method", "workers"), [*((method, 0) for method in METHODS), ("self_training", 2)])
def test_resume_continues_bit_exact(recipe: Recipe, tmp_path: Path, method: str, workers: int) -> None:
    recipe = METHODS[method](recipe)
    whole = fit(recipe, tmp_path / "whole")
    resumed = replace(recipe, runtime=RuntimeConfig(workers=workers))
    assert fit(resumed, tmp_path / "parts", watch=_stop_after(3)) is None
    again = fit(resumed, tmp_path / "parts", resume=True)
    assert whole is not None
    assert again is not None
    one, two = (load_checkpoint(tmp_path / run / CHECKPOINT_NAME).tensors for run in ("whole", "parts"))
    assert one.keys() == two.keys()
    different = [name for name in one if not torch.equal(one[name], two[name])]
    assert different == []
    assert _logged(tmp_path / "whole") == _logged(tmp_path / "parts")


def test_a_killed_run_forgets_the_steps_after_its_last_checkpoint(recipe: Recipe, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(progress: Progress) -> None:
        if progress.iteration == 5:
            raise Killed

    with pytest.raises(Killed):
        fit(recipe, tmp_path / "run", watch=Watch(progress=kill))
    assert len(_logged(tmp_path / "run")) == 5
    fit(recipe, tmp_path / "run", resume="auto")
    iterations = [json.loads(line)["iteration"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert iterations == [1, 2, 3, 4, 5, 6]
    fit(recipe, tmp_path / "whole")
    assert _logged(tmp_path / "run") == _logged(tmp_path / "whole")


def test_a_run_folder_is_not_overwritten_or_mixed(recipe: Recipe, tmp_path: Path) -> None:
    fit(recipe, tmp_path / "run", watch=_stop_after(1))
    with pytest.raises(RecipeError, match="holds a run already"):
        fit(recipe, tmp_path / "run")
    with pytest.raises(RecipeError, match="differs in seed"):
        fit(replace(recipe, seed=1), tmp_path / "run", resume=True)


def test_t9_two_at_once_a_run_folder_in_which_another_process_trains_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    refusals = []

    def second(_: Progress) -> None:
        with pytest.raises(RecipeError) as caught:
            fit(recipe, tmp_path / "run")
        refusals.append(str(caught.value))

    fit(replace(recipe, iterations=1), tmp_path / "run", watch=Watch(progress=second))
    place = tmp_path / "run"
    assert refusals == [
        f"process {os.getpid()} is training in '{place}'; wait until it has ended, or give another place"
    ]
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert not (tmp_path / "run" / ".lock").exists()


def test_how_a_run_is_carried_out_may_change_between_its_parts(recipe: Recipe, tmp_path: Path) -> None:
    fit(recipe, tmp_path / "run", watch=_stop_after(1))
    other = replace(recipe, runtime=RuntimeConfig(threads=1), checkpoint_every=5)
    assert fit(other, tmp_path / "run", resume="auto") is not None


def test_a_checkpoint_of_another_network_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    fit(recipe, tmp_path / "run", watch=_stop_after(1))
    other = replace(recipe, model=replace(recipe.model, overrides={**TINY, "decoder_channels": 16}))
    with pytest.raises(RecipeError, match="differs in model"):
        fit(other, tmp_path / "run", resume=True)


def test_frozen_encoder_norms_do_not_move(recipe: Recipe, tmp_path: Path) -> None:
    for name, one in (("source", recipe), ("adapted", _adapting(recipe))):
        run = fit(replace(one, model=replace(one.model, freeze_encoder_norm=True)), tmp_path / name)
        assert run is not None
        for network in ("student", "teacher"):
            saved = load_network(tmp_path / name, network).state_dict()
            norms = [key for key in saved if key.startswith("backbone") and key.endswith("running_mean")]
            assert norms
            assert not any(saved[key].any() for key in norms)
        assert load_file(run)["decode_head.head.fuse_layer.bottleneck.bn.running_mean"].any()


def test_the_teacher_moves_with_its_own_statistics(recipe: Recipe, tmp_path: Path) -> None:
    fit(_adapting(recipe), tmp_path / "run")
    student, teacher = (load_network(tmp_path / "run", name).state_dict() for name in ("student", "teacher"))
    weight, mean = "decode_head.head.conv_seg.weight", "decode_head.head.fuse_layer.bottleneck.bn.running_mean"
    assert not torch.equal(student[weight], teacher[weight])
    assert not torch.equal(student[mean], teacher[mean])


def test_a_run_can_start_from_the_weights_of_another(recipe: Recipe, tmp_path: Path) -> None:
    first = fit(recipe, tmp_path / "first")
    resting = replace(recipe, model=replace(recipe.model, weights=first), optim=OptimConfig(lr=0), iterations=1)
    second = fit(resting, tmp_path / "second")
    assert first is not None
    assert second is not None
    one, two = load_file(first), load_file(second)
    assert all(torch.equal(one[name], two[name]) for name in one if name.endswith(".weight"))


def test_a_single_scale_network_can_start_from_an_hrda(recipe: Recipe, tmp_path: Path) -> None:
    first = fit(recipe, tmp_path / "first")
    single = replace(recipe.model, weights=first, overrides={**TINY, "hrda": False})
    second = fit(replace(recipe, model=single, optim=OptimConfig(lr=0), iterations=1), tmp_path / "second")
    assert first is not None
    assert second is not None
    one, two = load_file(first), load_file(second)
    assert torch.equal(one["decode_head.head.conv_seg.weight"], two["decode_head.conv_seg.weight"])


def test_an_hrda_with_fixed_attention_can_start_from_one_that_learned_it(recipe: Recipe, tmp_path: Path) -> None:
    first = fit(recipe, tmp_path / "first")
    fixed = replace(recipe.model, weights=first, overrides={**TINY, "fixed_attention": 0.5})
    second = fit(replace(recipe, model=fixed, optim=OptimConfig(lr=0), iterations=1), tmp_path / "second")
    assert first is not None
    assert second is not None
    one, two = load_file(first), load_file(second)
    assert {name for name in one if name not in two} == {name for name in one if ".scale_attention." in name}
    assert torch.equal(one["decode_head.head.conv_seg.weight"], two["decode_head.head.conv_seg.weight"])


def test_a_loss_that_is_not_finite_stops_before_the_step_and_keeps_the_batch(recipe: Recipe, tmp_path: Path) -> None:
    # A learning rate beyond all measure: the second step meets weights that overflow.
    broken = replace(recipe, optim=OptimConfig(lr=1e25, warmup=0))
    with pytest.raises(TrainingError, match="not finite"):
        fit(broken, tmp_path / "run")
    batch = load_file(tmp_path / "run" / "bad_batch.safetensors")
    assert batch["source_images"].shape == (2, 3, 64, 64)
    saved = load_checkpoint(tmp_path / "run" / CHECKPOINT_NAME)
    assert saved.values["iteration"] == len(_logged(tmp_path / "run"))
    assert len(saved.tensors) > 100
    assert not_finite(saved.tensors) == []


def test_t3_a_gradient_that_is_not_finite_stops_before_the_step_though_the_loss_is_finite(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = iter(range(100))
    kept: dict[str, torch.Tensor] = {}

    def step(state: Any, *arguments: Any) -> Any:
        result = take_step(state, *arguments)
        if next(steps) == 2:
            kept.update({name: value.clone() for name, value in state.networks.student.named_parameters()})
            state.networks.student.decode_head.head.conv_seg.bias.grad[1] = float("nan")
        return result

    monkeypatch.setattr(loop, "take_step", step)
    with pytest.raises(TrainingError, match=r"gradient of iteration 3 .*1 gradients.*conv_seg\.bias"):
        fit(recipe, tmp_path / "run")
    saved = load_checkpoint(tmp_path / "run" / CHECKPOINT_NAME)
    assert saved.values["iteration"] == 2
    assert not_finite(saved.tensors) == []
    assert all(torch.equal(saved.tensors[f"student/{name}"], value) for name, value in kept.items())
    assert (tmp_path / "run" / "bad_batch.safetensors").is_file()


@pytest.mark.parametrize("network", ["student", "teacher"])
def test_t3_a_state_that_is_not_finite_never_replaces_a_good_checkpoint_and_never_ships(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    def finish(state: Any, given: Recipe) -> None:
        finish_step(state, given)
        if state.iteration == 4:
            tensors = getattr(state.networks, network).state_dict()
            tensors["decode_head.head.fuse_layer.bottleneck.bn.running_var"][0] = float("inf")

    monkeypatch.setattr(loop, "finish_step", finish)
    with pytest.raises(TrainingError, match=rf"after iteration 4 1 tensors .*{network}/.*running_var.*stays as it was"):
        fit(recipe, tmp_path / "run")
    saved = load_checkpoint(tmp_path / "run" / CHECKPOINT_NAME)
    assert saved.values["iteration"] == 2
    assert not_finite(saved.tensors) == []
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("crop", [(96, 160), (160, 96), (32, 96)])
def test_t3_a_crop_that_the_stride_does_not_divide_trains_with_the_feature_distance(
    recipe: Recipe, tmp_path: Path, crop: tuple[int, int]
) -> None:
    images, labels = write_street_images(tmp_path / "wide", count=2, size=(192, 256))
    wide = replace(recipe, source=replace(recipe.source, images=images, labels=labels), iterations=1)
    adapting = _adapting(replace(wide, crop=CropConfig(*crop)))
    fit(replace(adapting, target=replace(adapting.target, path=images)), tmp_path / "run")
    assert _logged(tmp_path / "run")[0]["feature_distance"] >= 0


def test_scores_and_pictures_are_kept(recipe: Recipe, tmp_path: Path) -> None:
    validation = ValidationConfig(
        "made up", images=recipe.source.images, labels=recipe.source.labels, split="", groups="camvid11", limit=2
    )
    adapting = replace(_adapting(recipe), validation=[validation], evaluate_every=3, pictures_every=2)
    drawn: list[Any] = []

    def draw(pictures: Any, _: Recipe) -> Any:
        drawn.append(sorted(pictures))
        return torch.zeros(8, 8, 3, dtype=torch.uint8).numpy()

    fit(adapting, tmp_path / "run", watch=Watch(draw=draw))
    lines = [json.loads(line) for line in (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()]
    assert [(line["iteration"], line["network"]) for line in lines] == [(3, "student"), (6, "student"), (6, "teacher")]
    assert all(line["images"] == 2 and 0 <= line["mean_iou"] <= 1 for line in lines)
    assert len(drawn) == 3
    assert {"mixed_image", "pseudo_labels", "attention"} <= set(drawn[0])
    assert len(list((tmp_path / "run" / "panels").iterdir())) == 3
    values = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert values["method"] == "self_training"
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["weights"]["loaded"] == 0


@pytest.mark.parametrize("content", [None, b"no tensors"])
def test_weights_that_cannot_be_used_are_named(recipe: Recipe, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"other\.safetensors"):
        fit(replace(recipe, model=replace(recipe.model, weights=path)), tmp_path / "run")


def test_c8_weights_that_are_not_finite_neither_start_nor_continue_a_run_nor_leave_one(
    recipe: Recipe, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first = fit(recipe, run)
    assert first is not None
    for file, name in ((first, "student"), (run / CHECKPOINT_NAME, "teacher")):
        with safe_open(file, "pt") as stored:
            metadata = stored.metadata()
        tensors = load_file(file)
        key = "decode_head.head.conv_seg.bias"
        tensors[key if file == first else f"{name}/{key}"][0] = float("nan")
        save_file(tensors, file, metadata)
        with pytest.raises(DataError, match="NaN or infinite"):
            load_network(run, name)
    with pytest.raises(DataError, match="NaN or infinite"):
        fit(replace(recipe, model=replace(recipe.model, weights=first)), tmp_path / "second")
    with pytest.raises(DataError, match="NaN or infinite"):
        fit(recipe, run, resume=True)


def test_a_random_encoder_is_an_error_unless_it_is_asked_for(recipe: Recipe, tmp_path: Path) -> None:
    model = ModelConfig(overrides=TINY, imagenet=False)
    with pytest.raises(RecipeError, match="--allow-random-backbone"):
        fit(replace(recipe, model=model), tmp_path / "run")


def test_an_encoder_file_that_fits_in_part_is_an_error_unless_it_is_asked_for(recipe: Recipe, tmp_path: Path) -> None:
    encoder = create_model("hrda_lite", **TINY).backbone
    weights = {name: value for name, value in encoder.state_dict().items() if "conv_stem" not in name}
    save_file(weights, tmp_path / "encoder.safetensors")
    model = ModelConfig(overrides=TINY, imagenet=False, backbone=tmp_path / "encoder.safetensors")
    with pytest.raises(CheckpointError, match="conv_stem"):
        fit(replace(recipe, model=model), tmp_path / "run")
    allowed = replace(recipe, model=replace(model, allow_random_backbone=True), iterations=1)
    assert fit(allowed, tmp_path / "run") is not None


def test_missing_data_is_named_before_anything_is_written(recipe: Recipe, tmp_path: Path) -> None:
    broken = replace(recipe, source=replace(recipe.source, images=tmp_path / "absent"))
    with pytest.raises(DataError, match="absent"):
        fit(broken, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_target_smaller_than_the_crop_is_named(recipe: Recipe, tmp_path: Path) -> None:
    images, _ = write_street_images(tmp_path / "small", count=2, size=(48, 128))
    small = replace(_adapting(recipe), target=TargetConfig("small", path=images))
    with pytest.raises(DataError, match="crop"):
        fit(small, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["supervised", "self_training", "domain_generalization"])
def test_half_precision_trains_with_losses_near_those_of_single(recipe: Recipe, tmp_path: Path, method: str) -> None:
    recipe = replace(METHODS[method](recipe), iterations=2)
    for precision in ("fp32", "bf16"):
        runtime = RuntimeConfig(precision=precision)  # type: ignore[arg-type]
        assert fit(replace(recipe, runtime=runtime), tmp_path / precision) is not None
    single, half = _logged(tmp_path / "fp32")[0], _logged(tmp_path / "bf16")[0]
    assert single["source.fused"] == pytest.approx(half["source.fused"], rel=0.05)
    assert single["source.fused"] != half["source.fused"]
    weights = load_file(tmp_path / "bf16" / "model.safetensors")
    assert weights["decode_head.head.conv_seg.weight"].dtype == torch.float32


def test_a_run_that_was_killed_before_its_last_scores_takes_them_when_resumed(recipe: Recipe, tmp_path: Path) -> None:
    validation = ValidationConfig("made up", images=recipe.source.images, labels=recipe.source.labels, split="")
    recipe = replace(recipe, validation=[validation], evaluate_every=4)
    fit(recipe, tmp_path / "run")
    log = tmp_path / "run" / "evaluations.jsonl"
    first, last = log.read_text().splitlines()
    log.write_text(first + "\n")
    fit(recipe, tmp_path / "run", resume="auto")
    assert [json.loads(line)["iteration"] for line in log.read_text().splitlines()] == [4, 6]
    assert json.loads(log.read_text().splitlines()[1]) == json.loads(last)


def test_a_run_that_was_killed_before_its_scores_takes_them_when_resumed(recipe: Recipe, tmp_path: Path) -> None:
    validation = ValidationConfig("made up", images=recipe.source.images, labels=recipe.source.labels, split="")
    recipe = replace(recipe, validation=[validation])
    fit(recipe, tmp_path / "run")
    (tmp_path / "run" / "evaluations.jsonl").unlink()
    fit(recipe, tmp_path / "run", resume="auto")
    lines = (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()
    assert [json.loads(line)["network"] for line in lines] == ["student"]  # with the average, which is what is exported


def test_a_finished_run_is_trained_longer_and_keeps_what_it_had(recipe: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = fit(recipe, run)
    assert first is not None
    before, student = first.read_bytes(), load_checkpoint(run / CHECKPOINT_NAME).below("student")
    said: list[str] = []
    longer = replace(recipe, iterations=10)
    again = fit(longer, run, resume="auto", watch=Watch(say=said.append))
    assert again == first
    assert "going on after iteration 6 of 10" in said
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, 11))
    # The rate of iteration 7 is that of a run of 10: 0.4 of the base, where it had come down to a sixth of it.
    assert lines[5]["learning_rate"] == pytest.approx(1e-3 / 6)
    assert lines[6]["learning_rate"] == pytest.approx(0.4e-3)
    assert lines[9]["learning_rate"] == pytest.approx(0.1e-3)
    assert (run / "model_000006.safetensors").read_bytes() == before
    moved = load_checkpoint(run / CHECKPOINT_NAME).below("student")
    assert any(not torch.equal(moved[name], student[name]) for name in student)
    assert yaml.safe_load((run / "recipe.yaml").read_text())["iterations"] == 10


def test_a_run_that_was_stopped_while_it_was_trained_longer_is_not_finished(recipe: Recipe, tmp_path: Path) -> None:
    fit(recipe, tmp_path / "run")
    longer = replace(recipe, iterations=10)
    assert fit(longer, tmp_path / "run", resume="auto", watch=_stop_after(2)) is None
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert fit(longer, tmp_path / "run", resume="auto") is not None
    assert sorted(path.name for path in (tmp_path / "run").glob("model*")) == [
        "model.safetensors",
        "model_000006.safetensors",
    ]


def test_a_run_is_not_made_shorter(recipe: Recipe, tmp_path: Path) -> None:
    fit(recipe, tmp_path / "run")
    with pytest.raises(RecipeError, match="has 6 iterations, not 4; give as many, or more"):
        fit(replace(recipe, iterations=4), tmp_path / "run", resume="auto")
    assert (tmp_path / "run" / "model.safetensors").exists()
