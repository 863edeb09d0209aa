"""The training loop: it learns, resumes bit-exactly, and never leaves half a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from street_images import write_street_images
from tiny_network import TINY

from hrda_core.data.transforms import CropConfig
from hrda_core.errors import CheckpointError, DataError, RecipeError
from hrda_core.models import create_model
from hrda_core.trainer.checkpoint import load_checkpoint, save_checkpoint
from hrda_core.trainer.loop import Progress, fit
from hrda_core.trainer.optim import OptimConfig
from hrda_core.trainer.recipe import ModelConfig, Recipe, SourceConfig


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    images, labels = write_street_images(tmp_path / "data", count=4)
    return Recipe(
        name="tiny",
        source=SourceConfig("made up", images, labels, rcs_min_pixels=100),
        model=ModelConfig(overrides=TINY, imagenet=False, allow_random_backbone=True),
        crop=CropConfig(64, 64),
        optim=OptimConfig(lr=1e-3, warmup=2),
        iterations=6,
        average=0.9,
        checkpoint_every=2,
    )


def _logged_losses(run: Path) -> list[dict[str, float]]:
    return [json.loads(line)["losses"] for line in (run / "log.jsonl").read_text().splitlines()]


def _stop_after(steps: int) -> object:
    calls = iter(range(1000))
    return lambda: next(calls) + 1 >= steps


def test_the_loss_goes_down(recipe: Recipe, tmp_path: Path) -> None:
    seen: list[Progress] = []
    fit(replace(recipe, iterations=25), tmp_path / "run", report=seen.append)
    first, last = (sum(sum(p.losses.values()) for p in part) for part in (seen[:5], seen[-5:]))
    assert last < 0.8 * first


def test_resume_continues_bit_exact(recipe: Recipe, tmp_path: Path) -> None:
    whole = fit(recipe, tmp_path / "whole")
    assert fit(recipe, tmp_path / "parts", should_stop=_stop_after(3)) is None  # type: ignore[arg-type]
    resumed = fit(recipe, tmp_path / "parts", resume=True)
    assert whole is not None
    assert resumed is not None
    one, two = load_file(whole), load_file(resumed)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert _logged_losses(tmp_path / "whole") == _logged_losses(tmp_path / "parts")


def test_a_run_folder_is_not_overwritten_or_mixed(recipe: Recipe, tmp_path: Path) -> None:
    fit(recipe, tmp_path / "run", should_stop=_stop_after(1))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="holds a run already"):
        fit(recipe, tmp_path / "run")
    with pytest.raises(RecipeError, match="differs in seed"):
        fit(replace(recipe, seed=1), tmp_path / "run", resume=True)


def test_frozen_encoder_norms_do_not_move(recipe: Recipe, tmp_path: Path) -> None:
    frozen = replace(
        recipe, model=ModelConfig(overrides=TINY, imagenet=False, allow_random_backbone=True, freeze_encoder_norm=True)
    )
    weights = fit(frozen, tmp_path / "run")
    assert weights is not None
    saved = load_file(weights)
    norms = [name for name in saved if name.startswith("backbone") and name.endswith("running_mean")]
    assert norms
    assert not any(saved[name].any() for name in norms)
    assert saved["decode_head.head.fuse_layer.bottleneck.bn.running_mean"].any()


def test_a_run_can_start_from_the_weights_of_another(recipe: Recipe, tmp_path: Path) -> None:
    first = fit(recipe, tmp_path / "first")
    resting = replace(recipe, model=replace(recipe.model, weights=first), optim=OptimConfig(lr=0), iterations=1)
    second = fit(resting, tmp_path / "second")
    assert first is not None
    assert second is not None
    one, two = load_file(first), load_file(second)
    assert all(torch.equal(one[name], two[name]) for name in one if name.endswith(".weight"))


@pytest.mark.parametrize("content", [None, b"no tensors"])
def test_weights_that_cannot_be_used_are_named(recipe: Recipe, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"other\.safetensors"):
        fit(replace(recipe, model=replace(recipe.model, weights=path)), tmp_path / "run")


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


def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"iteration": 3, "weights": torch.ones(2)})
    assert load_checkpoint(path)["iteration"] == 3
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="cannot be read"):
        load_checkpoint(path)
    assert path.exists()
    with pytest.raises(DataError, match="does not exist"):
        load_checkpoint(tmp_path / "absent.pt")


def test_a_checkpoint_that_would_run_code_is_refused_and_the_code_does_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (open, (str(tmp_path / "ran"), "w"))  # type: ignore[return-value]

    torch.save({"iteration": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(DataError):
        load_checkpoint(tmp_path / "trap.pt")
    assert not (tmp_path / "ran").exists()
