"""How the networks of a run are used after it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hrda_core.data.augmentation.transforms import CropConfig
from hrda_core.input_scale import InputScale
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.recipe_data import SourceConfig, TargetConfig, ValidationConfig
from hrda_core.trainer.run_use import SeenSizes, run_use, seen_sizes
from hrda_core.window_plan import PlanChoice

SCORED = ValidationConfig("night", resize=(1024, 512), plan="nested", window=(512, 512))


@pytest.fixture
def recipe() -> Recipe:
    return Recipe("r", SourceConfig("s"), crop=CropConfig(resize=(1280, 720)))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "environment.json").write_text(json.dumps(SeenSizes((480, 900), 640).to_dict()))
    return tmp_path


def test_the_first_validation_set_says_size_plan_and_window(recipe: Recipe, run: Path) -> None:
    use = run_use(replace(recipe, validation=[SCORED]), run, hrda=True)
    assert use.scale == InputScale(0, (1024, 512), "bilinear", (480, 900))
    assert use.choice == PlanChoice("nested", crop=(512, 512))
    assert use.origin == "as the run scores 'night'"


def test_validation_sets_that_differ_are_named(recipe: Recipe, run: Path) -> None:
    use = run_use(replace(recipe, validation=[SCORED, replace(SCORED, name="day", resize=None)]), run, hrda=True)
    assert use.scale.resize == (1024, 512)
    assert "differs from day" in use.origin


def test_images_that_are_scored_in_their_own_size_are_shrunk_to_the_largest_seen(recipe: Recipe, run: Path) -> None:
    use = run_use(replace(recipe, validation=[ValidationConfig("val")]), run, hrda=False)
    assert (use.scale.long_side, use.scale.resize, use.choice.name) == (640, None, "whole")


def test_without_a_validation_set_the_resizing_of_the_training_counts(recipe: Recipe, run: Path) -> None:
    assert run_use(recipe, run, hrda=True).scale.resize == (1280, 720)
    target = TargetConfig("t", path=run, long_side=500)
    use = run_use(replace(recipe, target=target), run, hrda=True)
    assert (use.scale.resize, use.scale.long_side, use.choice.name) == (None, 500, "overlap")


def test_of_a_run_of_an_earlier_release_no_sizes_are_known(recipe: Recipe, tmp_path: Path) -> None:
    for text in (None, "{}", "[1", '{"sizes": {"trained": [1], "largest": 2}}'):
        if text is not None:
            (tmp_path / "environment.json").write_text(text)
        use = run_use(replace(recipe, validation=[ValidationConfig("val")]), tmp_path, hrda=True)
        assert use.scale == InputScale(interpolation="bilinear")


def test_sizes_are_those_after_the_resizing_and_of_what_is_scored_natively() -> None:
    crop = CropConfig(resize=(1280, 720), scale_min=0.5, scale_max=1.5)
    assert seen_sizes([([(1052, 1914)] * 3, crop)], [(360, 480)]) == SeenSizes((640, 1920), 1280)
    assert seen_sizes([([(1052, 1914)], crop)], [(1080, 1920)]).largest == 1920
    several = [([(480, 640)], CropConfig()), ([(1080, 1920)], CropConfig(scale_min=0.5))]
    assert seen_sizes(several, []) == SeenSizes((640, 1920), 1920)
    assert seen_sizes([], []) == SeenSizes()
