"""Weights that rest are held once, and a run with them held twice leaves the same tensors, byte for byte."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from street_images import write_street_images
from tiny_network import TINY
from torch import nn

from hrda_core.data.augmentation.transforms import CropConfig
from hrda_core.trainer.best import BEST_NAME
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME
from hrda_core.trainer.loop import Watch, fit
from hrda_core.trainer.optim import OptimConfig
from hrda_core.trainer.recipe import ModelConfig, Recipe
from hrda_core.trainer.recipe_data import SourceConfig, TargetConfig, ValidationConfig
from hrda_core.trainer.resting import share_resting
from hrda_core.trainer.runtime import Runtime
from hrda_core.trainer.state import WEIGHTS_NAME, start_state
from hrda_core.uda.feature_distance import FeatureDistanceConfig
from hrda_core.uda.self_training import SelfTrainingConfig
from hrda_core.uda.step import Networks
from hrda_core.uda.teacher import update_teacher

VIT: dict[str, Any] = {**TINY, "encoder": "test_vit", "adapter_rank": 4, "rein_tokens": 8}
DISTANCE = FeatureDistanceConfig(weight=0.05, things_only=False)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """Self-training with teacher and feature distance, which keeps its best networks."""
    images, labels = write_street_images(tmp_path / "data", count=3, size=(128, 128))
    return Recipe(
        name="tiny",
        method="self_training",
        source=SourceConfig("made up", images=images, labels=labels, rcs_min_pixels=100),
        target=TargetConfig("made up too", path=images),
        validation=[ValidationConfig("day", images=images, labels=labels)],
        model=_model("lora"),
        crop=CropConfig(64, 64),
        optim=OptimConfig(lr=1e-3, warmup=0),
        feature_distance=DISTANCE,
        self_training=SelfTrainingConfig(threshold=0.05),
        iterations=3,
        evaluate_every=2,
        keep_best="day/mean_iou",
    )


def _model(tuning: str) -> ModelConfig:
    return ModelConfig(overrides={**VIT, "tuning": tuning}, imagenet=False, allow_random_backbone=True)


CASES: dict[str, dict[str, Any]] = {
    "lora": {},
    "rein": {"model": _model("rein")},
    "frozen": {"model": _model("frozen"), "feature_distance": FeatureDistanceConfig(weight=0.0)},
    "frozen norms": {
        "model": ModelConfig(overrides=TINY, imagenet=False, allow_random_backbone=True, freeze_encoder_norm=True)
    },
    "moving average": {"method": "supervised", "target": None},
}


def _start(recipe: Recipe) -> Networks:
    torch.manual_seed(recipe.seed)
    return start_state(recipe, Runtime.open(recipe.runtime)).networks


def _resting(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in network.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize("case", list(CASES))
def test_what_rests_is_in_memory_once_and_what_learns_in_every_network(recipe: Recipe, case: str) -> None:
    networks = _start(replace(recipe, **CASES[case]))
    student, resting = networks.student, _resting(networks.student)
    assert resting
    assert networks.teacher is not None
    places = {parameter.data_ptr() for parameter in student.parameters()}
    for name, parameter in networks.teacher.named_parameters():
        assert (parameter.data_ptr() in places) == (name in resting), name
        assert not parameter.requires_grad
    for name, parameter in () if networks.imagenet is None else networks.imagenet.named_parameters():
        assert (parameter.data_ptr() in places) == (f"backbone.{name}" in resting), name
    assert not places & {buffer.data_ptr() for buffer in networks.teacher.buffers()}


@pytest.mark.parametrize("case", list(CASES))
def test_a_run_that_holds_them_twice_gives_the_same_checkpoint_weights_and_best_networks(
    recipe: Recipe, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(recipe, **CASES[case])
    fit(recipe, tmp_path / "once")
    with monkeypatch.context() as patch:
        patch.setattr("hrda_core.trainer.state.share_resting", lambda *_: None)
        fit(recipe, tmp_path / "twice")
        calls = iter(range(9))
        fit(recipe, tmp_path / "parts", watch=Watch(should_stop=lambda: next(calls) == 0))
    fit(recipe, tmp_path / "parts", resume=True)  # begun as releases did that held them twice
    for other in ("twice", "parts"):
        for name in (CHECKPOINT_NAME, WEIGHTS_NAME, BEST_NAME):
            once, found = (_content(tmp_path / run / name) for run in ("once", other))
            assert once == found, (other, name)


def _content(path: Path) -> dict[str, Any]:
    """Tensors as bytes, and the text beside them; the file itself has them in an order that is not fixed."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()} | (file.metadata() or {})  # noqa: SIM118


def test_the_teachers_average_leaves_what_rests_untouched(recipe: Recipe) -> None:
    networks = _start(recipe)
    assert networks.teacher is not None
    teacher = dict(networks.teacher.named_parameters())
    before = {name: parameter._version for name, parameter in teacher.items()}
    update_teacher(networks.teacher, networks.student, 5, 0.9)
    written = {name for name, parameter in teacher.items() if parameter._version != before[name]}
    assert written == set(teacher) - set(_resting(networks.student))


def test_the_feature_distance_shares_the_encoder_of_its_own_file_and_of_no_other(
    recipe: Recipe, tmp_path: Path
) -> None:
    first = fit(replace(recipe, iterations=1, keep_best=""), tmp_path / "first")
    assert first is not None
    tensors = load_file(first)
    names = [name for name in tensors if name.startswith("backbone.body.model.") and ".lora_" not in name]
    encoder = {name.removeprefix("backbone.body.model."): tensors[name] for name in names}
    encoder["pos_embed"] = tensors["backbone.pos_embed"]
    changed = next(name for name in encoder if name.endswith("blocks.3.attn.qkv.weight"))
    for file, apart in (("same", set()), ("other", {f"body.model.{changed}"})):
        if apart:
            encoder[changed] = encoder[changed] + 1
        save_file(encoder, tmp_path / f"{file}.safetensors")
        model = replace(recipe.model, weights=first, backbone=tmp_path / f"{file}.safetensors")
        networks = _start(replace(recipe, model=model))
        assert networks.imagenet is not None
        resting = _resting(networks.student.backbone)
        theirs = dict(networks.imagenet.named_parameters())
        assert {name for name in resting if theirs[name] is not resting[name]} == apart
        for name in apart:
            assert torch.equal(theirs[name], resting[name] + 1)


def test_what_is_shared_moves_with_both_networks() -> None:
    student = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3))
    student[0].requires_grad_(False)
    teacher = copy.deepcopy(student).requires_grad_(False)
    share_resting(student, teacher)
    for network in (student, teacher):
        network.to(torch.float64).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, shared in (("0.weight", True), ("0.bias", True), ("1.weight", False), ("1.bias", False)):
        ours, theirs = student.get_parameter(name), teacher.get_parameter(name)
        assert ours.dtype == theirs.dtype == torch.float64
        assert (ours.data_ptr() == theirs.data_ptr()) is shared
    assert student[1].weight.requires_grad
