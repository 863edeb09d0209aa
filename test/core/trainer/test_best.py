"""The best networks of a run, kept beside the last."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from street_images import write_street_images
from tiny_network import TINY

from hrda_core.data.augmentation.transforms import CropConfig
from hrda_core.errors import DataError, RecipeError
from hrda_core.trainer import loop
from hrda_core.trainer.best import BEST_NAME, best_of
from hrda_core.trainer.checkpoint import load_checkpoint
from hrda_core.trainer.loading import load_network
from hrda_core.trainer.loop import Watch, fit
from hrda_core.trainer.recipe import ModelConfig, Recipe
from hrda_core.trainer.recipe_data import SourceConfig, TargetConfig, ValidationConfig


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    images, labels = write_street_images(tmp_path / "data", count=2)
    return Recipe(
        name="tiny",
        source=SourceConfig("made up", images=images, labels=labels, rcs_temperature=0),
        validation=[ValidationConfig("by night", images=images, labels=labels, split="")],
        model=ModelConfig(overrides=TINY, imagenet=False, allow_random_backbone=True),
        crop=CropConfig(64, 64),
        iterations=4,
        average=0.0,
        evaluate_every=1,
        keep_best="by night/mean_iou",
    )


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Scores of iterations 1, 2, ...; the real scoring is left out."""
    listed: list[float | None] = []

    def validate(state: Any, recipe: Recipe, *others: Any, **options: Any) -> dict[str, dict[str, Any]]:
        value = listed[state.iteration - 1]
        return {config.name: {"mean_iou": value, "iou": {"road": value, "car": 0.5}} for config in recipe.validation}

    monkeypatch.setattr(loop, "validate", validate)
    return listed


@pytest.mark.parametrize(
    ("values", "best"), [([0.1, 0.4, 0.3, 0.2], 2), ([0.1, 0.2, 0.3, 0.4], 4), ([None, 0.3, 0.3, None], 2)]
)
def test_the_networks_of_the_highest_score_are_kept(
    recipe: Recipe, tmp_path: Path, scores: list[float | None], values: list[float | None], best: int
) -> None:
    scores += values
    said: list[str] = []
    fit(recipe, tmp_path / "run", watch=Watch(say=said.append))
    assert best_of(tmp_path / "run") == {"iteration": best, "score": "by night/mean_iou", "value": values[best - 1]}
    assert sum(line.startswith("best by night/mean_iou so far") for line in said) == best - (values[0] is None)
    shorter = replace(recipe, iterations=4, keep_best="", checkpoint_every=0)
    calls = iter(range(1, 9))
    fit(shorter, tmp_path / "until", watch=Watch(should_stop=lambda: next(calls) == best))
    expected = load_checkpoint(tmp_path / "until" / "checkpoint.safetensors").below("student")
    kept = load_network(tmp_path / "run", "student", "best").state_dict()
    assert all(torch.equal(kept[name], value) for name, value in expected.items())


def test_a_run_that_goes_on_knows_its_best(recipe: Recipe, tmp_path: Path, scores: list[float | None]) -> None:
    scores += [0.4, 0.1, 0.2, 0.3, 0.39, 0.5]
    calls = iter(range(1, 9))
    fit(recipe, tmp_path / "run", watch=Watch(should_stop=lambda: next(calls) == 2))
    fit(recipe, tmp_path / "run", resume="auto")
    assert (best_of(tmp_path / "run") or {})["iteration"] == 1
    fit(replace(recipe, iterations=6), tmp_path / "run", resume="auto")
    assert (best_of(tmp_path / "run") or {})["iteration"] == 6


def test_the_best_by_another_score_starts_anew(recipe: Recipe, tmp_path: Path, scores: list[float | None]) -> None:
    scores += [0.9, 0.1, 0.1, 0.1, 0.1]
    fit(recipe, tmp_path / "run")
    fit(replace(recipe, keep_best="by night/car", iterations=5), tmp_path / "run", resume="auto")
    assert best_of(tmp_path / "run") == {"iteration": 5, "score": "by night/car", "value": 0.5}


def test_real_scores_name_the_best_and_the_teacher_is_kept_too(recipe: Recipe, tmp_path: Path) -> None:
    target = TargetConfig("made up", path=recipe.source.images)
    adapting = replace(recipe, method="self_training", target=target, iterations=3)
    adapting = replace(adapting, feature_distance=replace(adapting.feature_distance, weight=0))
    fit(adapting, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()]
    of_student = {line["iteration"]: line["mean_iou"] for line in lines if line["network"] == "student"}
    assert list(of_student) == [1, 2, 3]
    best = best_of(tmp_path / "run")
    assert best is not None
    assert best["value"] == max(of_student.values()) == of_student[best["iteration"]]
    teacher = load_network(tmp_path / "run", "teacher", "best").state_dict()
    assert any(
        not torch.equal(value, teacher[name])
        for name, value in load_network(tmp_path / "run", "student", "best").state_dict().items()
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"keep_best": "mean_iou"}, "VALIDATION/SCORE"),
        ({"keep_best": "by nigth/mean_iou"}, "did you mean 'by night'"),
        ({"validation": []}, "the recipe has none"),
        ({"evaluate_every": 0}, "evaluate_every is 0"),
    ],
)
def test_a_recipe_that_cannot_name_a_best_is_refused(recipe: Recipe, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        replace(recipe, **changes)


def test_a_score_that_there_is_not_is_refused_before_the_first_step(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has no score 'mean_io'; did you mean 'mean_iou'"):
        fit(replace(recipe, keep_best="by night/mean_io"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_best_says_how_to_get_one(recipe: Recipe, tmp_path: Path) -> None:
    fit(replace(recipe, keep_best="", iterations=1, validation=[]), tmp_path / "run")
    with pytest.raises(RecipeError, match="keep_best: VALIDATION/SCORE"):
        load_network(tmp_path / "run", "student", "best")
    (tmp_path / "run" / BEST_NAME).write_bytes(b"half")
    with pytest.raises(DataError, match="remove it"):
        best_of(tmp_path / "run")


@pytest.mark.parametrize(
    "values",
    [
        "[1]", "7", "null", "{", "[" * 5000, '{"iteration": 1, "score": "a/b"}',
        '{"iteration": 1, "score": "a/b", "value": "x"}', '{"iteration": 1, "score": "a/b", "value": []}',
        '{"iteration": Infinity, "score": "a/b", "value": 0.5}',
    ],
)  # fmt: skip
def test_f5_a_best_whose_values_are_damaged_is_one_sentence(tmp_path: Path, values: str) -> None:
    save_file({"student/a": torch.ones(1)}, tmp_path / BEST_NAME, {"values": values})
    with pytest.raises(DataError, match="remove it"):
        best_of(tmp_path)
