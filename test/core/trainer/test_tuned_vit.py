"""A plain ViT whose own weights rest: LoRA and Rein learn, resume bit by bit, become a bundle, and are told apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from street_images import write_street_images
from tiny_network import TINY

from hrda_core.data.augmentation.transforms import CropConfig
from hrda_core.data.image_files import read_image
from hrda_core.deploy.deploy_graph import DeployGraph
from hrda_core.deploy.network import load_network as load_bundle
from hrda_core.errors import DataError, RecipeError
from hrda_core.inference import Bundle, Predictor
from hrda_core.models.adapters import adapter_names
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, load_checkpoint
from hrda_core.trainer.loading import load_network
from hrda_core.trainer.loop import Progress, Watch, fit
from hrda_core.trainer.optim import OptimConfig
from hrda_core.trainer.recipe import ModelConfig, Recipe, RuntimeConfig
from hrda_core.trainer.recipe_data import SourceConfig, TargetConfig
from hrda_core.trainer.runtime import Runtime
from hrda_core.trainer.state import start_state
from hrda_core.uda.domain_generalization import DgConfig
from hrda_core.uda.feature_distance import FeatureDistanceConfig
from hrda_core.uda.self_training import SelfTrainingConfig
from hrda_training.__main__ import main

SMALL: dict[str, Any] = {**TINY, "encoder": "test_vit", "adapter_rank": 4, "rein_tokens": 8}
MEAN = (127.5, 127.5, 127.5)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Self-training with teacher and feature distance; every loss counts from the first step."""
    images, labels = write_street_images(tmp_path / "data", count=3, size=(128, 128))
    return Recipe(
        name="tiny",
        method="self_training",
        source=SourceConfig("made up", images=images, labels=labels, rcs_min_pixels=100),
        target=TargetConfig("made up too", path=images),
        model=_tuned("lora"),
        crop=CropConfig(64, 64),
        optim=OptimConfig(lr=1e-3, warmup=0),
        feature_distance=FeatureDistanceConfig(weight=0.05, things_only=False),
        self_training=SelfTrainingConfig(threshold=0.05),
        generalization=DgConfig(prototypes=3),
        iterations=4,
    )


def _tuned(tuning: str, **changes: Any) -> ModelConfig:
    return ModelConfig(overrides={**SMALL, "tuning": tuning, **changes}, imagenet=False, allow_random_backbone=True)


def _stop_after(steps: int) -> Watch:
    calls = iter(range(1000))
    return Watch(should_stop=lambda: next(calls) + 1 >= steps)


def _moved(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


@pytest.mark.parametrize("tuning", ["lora", "rein"])
def test_the_adapters_learn_the_encoder_rests_and_a_run_resumes_bit_exact(
    recipe: Recipe, tmp_path: Path, tuning: str
) -> None:
    recipe = replace(recipe, model=_tuned(tuning))
    begin = load_checkpoint_of_start(recipe)
    fit(recipe, tmp_path / "whole")
    assert fit(recipe, tmp_path / "parts", watch=_stop_after(2)) is None
    fit(recipe, tmp_path / "parts", resume=True)
    one, two = (load_checkpoint(tmp_path / run / CHECKPOINT_NAME) for run in ("whole", "parts"))
    assert one.tensors.keys() == two.tensors.keys()
    assert _moved(dict(one.tensors), dict(two.tensors)) == set()
    adapters = adapter_names(begin)
    assert len(adapters) == (2 * 6 if tuning == "lora" else 6)
    for network in ("student", "teacher"):
        moved = _moved(begin, one.below(network))
        assert adapters <= moved
        assert {name for name in moved if name.startswith("backbone.body")} <= adapters
        assert any(name.startswith("backbone.enlarge") for name in moved)
    kept = {name.removeprefix("optimizer/").rpartition("/")[0] for name in one.tensors if name.startswith("optimizer/")}
    assert not {name for name in kept if name.startswith("backbone.body")} - adapters


def load_checkpoint_of_start(recipe: Recipe) -> dict[str, Any]:
    """The student before the first step."""
    torch.manual_seed(recipe.seed)
    state = start_state(recipe, Runtime.open(recipe.runtime))
    return {name: value.clone() for name, value in state.networks.student.state_dict().items()}


@pytest.mark.parametrize("tuning", ["lora", "rein"])
def test_the_loss_goes_down(recipe: Recipe, tmp_path: Path, tuning: str) -> None:
    seen: list[Progress] = []
    alone = replace(recipe, method="supervised", target=None, model=_tuned(tuning), iterations=25)
    fit(alone, tmp_path / "run", watch=Watch(progress=seen.append))
    first, last = (sum(p.loss for p in part) for part in (seen[:5], seen[-5:]))
    assert last < 0.85 * first  # 0.73 for each


def test_a_plain_vit_generalises_with_styles_of_its_patches_and_computes_its_blocks_twice_to_the_same_end(
    recipe: Recipe, tmp_path: Path
) -> None:
    losses: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    for twice, seen in losses.items():
        runtime = RuntimeConfig(gradient_checkpointing=twice)
        method = "domain_generalization"
        general = replace(recipe, method=method, model=_tuned("rein"), runtime=runtime, iterations=3)
        fit(general, tmp_path / f"{twice}", watch=Watch(progress=lambda p, seen=seen: seen.append(dict(p.losses))))
    assert losses[True] == losses[False]
    assert all(entry["style_consistency"] > 0 for entry in losses[True])
    assert losses[True][2]["feature_distance"] > 0
    styles = load_checkpoint(tmp_path / "True" / CHECKPOINT_NAME).below("styles")
    assert {tuple(value.shape) for value in styles.values()} == {(3, 64)}


@pytest.mark.parametrize("tuning", ["lora", "rein"])
def test_a_run_becomes_a_bundle_that_onnx_runtime_answers_as_the_trained_network(
    recipe: Recipe, tmp_path: Path, tuning: str
) -> None:
    fit(replace(recipe, model=_tuned(tuning), iterations=3), tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "bundle")]) == 0
    bundle = Bundle.open(tmp_path / "bundle")
    image = read_image(recipe.source.images / "train" / "frame0.jpg")  # type: ignore[operator,union-attr]
    found = Predictor(bundle, backend="onnx")(image)
    choice = bundle.graphs["tiles"].choice
    for network in (load_network(tmp_path / "run"), load_bundle(bundle)):
        graph = DeployGraph.for_any_size(network, choice, MEAN, MEAN).eval()  # type: ignore[arg-type]
        with torch.inference_mode():
            labels = graph(torch.from_numpy(image[None]))[0][0].numpy()
        assert np.mean(found.labels == labels) > 0.999
    assert bool(adapter_names(load_bundle(bundle).state_dict())) == (tuning == "rein")  # LoRA is in the weights now


def test_weights_with_other_adapters_are_refused_in_one_sentence_and_those_without_are_taken(
    recipe: Recipe, tmp_path: Path
) -> None:
    single = replace(recipe, method="supervised", target=None, iterations=1)
    lora = fit(single, tmp_path / "lora")

    def start(tuning: str, weights: Path | None, **changes: Any) -> Any:
        model = replace(_tuned(tuning, **changes), weights=weights)
        return start_state(replace(single, model=model), Runtime.open(single.runtime))

    other = {"rank": ("lora", {"adapter_rank": 2}, "LoRA of rank 2 in 6 blocks of width 64")}
    other["none"] = ("full", {}, "no adapters")
    other["rein"] = ("rein", {}, "8 tokens of Rein of rank 4 in 6 blocks of width 64")
    other["encoder"] = ("lora", {"encoder": "test_vit2"}, "LoRA of rank 4 in 8 blocks of width 64")
    for tuning, changes, what in other.values():
        with pytest.raises(DataError, match=f"have LoRA of rank 4 in 6 blocks of width 64, this network has {what};"):
            start(tuning, lora, **changes)
    plain = fit(replace(single, model=_tuned("full")), tmp_path / "plain")
    begun = start("lora", plain)
    assert begun.weights_loaded["loaded"] == len(load_file(plain))  # type: ignore[arg-type]
    assert not any(
        value.any() for name, value in begun.networks.student.state_dict().items() if name.endswith("lora_b")
    )


def test_the_feature_distance_compares_with_the_encoder_without_adapters(recipe: Recipe, tmp_path: Path) -> None:
    first = fit(replace(recipe, method="supervised", target=None, iterations=2), tmp_path / "first")
    file = tmp_path / "vit.safetensors"  # of the encoder alone, as timm names it
    tensors = load_file(first)  # type: ignore[arg-type]
    names = [name for name in tensors if name.startswith("backbone.body.model.") and ".lora_" not in name]
    encoder = {name.removeprefix("backbone.body.model."): tensors[name] for name in names}
    save_file(encoder | {"pos_embed": tensors["backbone.pos_embed"]}, file)
    model = replace(recipe.model, weights=first, backbone=file, allow_random_backbone=False)
    networks = start_state(replace(recipe, model=model), Runtime.open(recipe.runtime)).networks
    assert networks.imagenet is not None
    assert not adapter_names(networks.imagenet.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        ours, theirs = networks.student.backbone(image)[-1], networks.imagenet(image)[-1]
    assert (ours - theirs).norm() > 1e-4


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"crop": CropConfig(64, 96)}, "crop of 96 x 64 pixels cuts the patches of 'test_vit': give multiples of 64"),
        ({"model": _tuned("frozen")}, "the feature distance of an encoder that rests is 0"),
        ({"model": _tuned("lora", detail_crop=[32, 40])}, r"detail_crop \(32, 40\) cuts the patches of 'test_vit'"),
        ({"model": _tuned("lora", encoder="test_efficientnet")}, "'test_efficientnet' is none"),
        ({"model": _tuned("lora", adapter_rank=65)}, "adapter_rank is 65, but the tokens of 'test_vit' have 64"),
        ({"model": _tuned("lora", adapter_rank=0)}, "adapter_rank must be a whole number, 1 or more, not 0"),
        ({"model": _tuned("rein", rein_tokens=1)}, "rein_tokens must be a whole number, 2 or more, not 1"),
        ({"model": _tuned("lorra")}, "tuning 'lorra' is not known; did you mean 'lora'"),
        (
            {"model": _tuned("full", encoder="vit_base_patch32_224")},
            "has patches of 32 pixels; choose one with 14 or 16",
        ),
    ],
)
def test_what_does_not_go_together_is_one_sentence(recipe: Recipe, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence) as caught:
        start_state(replace(recipe, **changes), Runtime.open(recipe.runtime))
    assert "\n" not in str(caught.value)
