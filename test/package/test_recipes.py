"""config/recipes: each is one that `hrda train` accepts, fits its network and data, and gives its numbers' origin."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
import torch

from hrda_core.data.datasets.layouts import FOLDERS, LAYOUTS, find_layout
from hrda_core.label_files import find_groups
from hrda_core.models import create_model
from hrda_core.models.hrda import HRDA
from hrda_core.models.presets import resolve_preset
from hrda_core.models.segmenter import Segmenter
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.spaces import recipe_space
from hrda_core.window_plan import HRDA_PLANS, SINGLE_SCALE_PLANS
from hrda_training import train

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPES = {path.stem: path for path in sorted((REPOSITORY / "config" / "recipes").glob("*.yaml"))}
PAPER = [stem for stem in RECIPES if "_lite" not in stem]
"""Recipes of the papers' experiments; the others train the small shipped network."""
PAIRS = [stem for stem in PAPER if stem.endswith("_daformer_mitb5")]
EXPERIMENTS = REPOSITORY / "docs" / "research" / "paper_experiments.md"


def ablations() -> list[tuple[str, str]]:
    """Recipe and options of every row of the ablation tables in the documentation."""
    text = EXPERIMENTS.read_text(encoding="utf-8")
    return re.findall(r"^\|[^|]*\| `(\w+)` \| `(--[^|`]*)` \|", text, re.MULTILINE)


@cache
def load(stem: str, options: str = "") -> Recipe:
    """The recipe as `hrda train` reads it, which then has nothing else to do."""
    found: list[Recipe] = []
    with mock.patch.object(train, "estimate", lambda recipe, *_: found.append(recipe)):
        assert train.main([str(RECIPES[stem]), "--check", *shlex.split(options)]) == 0
    return found[0]


@cache
def network(preset: str, **overrides: object) -> HRDA | Segmenter:
    """A preset without memory."""
    with torch.device("meta"):
        return create_model(preset, num_classes=19, **overrides)


def network_of(recipe: Recipe) -> HRDA | Segmenter:
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in recipe.model.overrides.items()}
    return network(recipe.model.preset, **values)


@pytest.mark.parametrize("stem", RECIPES)
def test_the_command_accepts_the_recipe_and_the_file_has_its_name(stem: str) -> None:
    name = load(stem).name
    assert stem == name or stem.endswith(f"_{name}")


@pytest.mark.parametrize("stem", RECIPES)
def test_the_training_crop_holds_the_detail_crop_of_the_network(stem: str) -> None:
    recipe = load(stem)
    model = network_of(recipe)
    if isinstance(model, HRDA):
        height, width = model.detail_crop
        assert height <= recipe.crop.height
        assert width <= recipe.crop.width


@pytest.mark.parametrize("stem", RECIPES)
def test_every_data_set_is_a_known_layout_with_labels_where_they_are_needed(stem: str) -> None:
    recipe = load(stem)
    for data in (*recipe.sources, *recipe.validation):
        if data.layout == FOLDERS:
            assert data.images
            assert data.labels
        else:
            assert data.split in find_layout(data.layout).labelled
            assert data.root
    if recipe.target is not None and recipe.target.layout:
        assert recipe.target.split in find_layout(recipe.target.layout).splits
        assert recipe.target.root


@pytest.mark.parametrize("stem", RECIPES)
def test_scores_are_taken_in_groups_of_its_classes_by_a_plan_of_the_network(
    stem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    recipe = load(stem)
    plans = HRDA_PLANS if isinstance(network_of(recipe), HRDA) else SINGLE_SCALE_PLANS
    assert {data.plan for data in recipe.validation} <= {"", *plans}
    assert all(find_groups(data.groups, recipe_space(recipe)).groups for data in recipe.validation)


@pytest.mark.parametrize("stem", PAPER)
def test_every_number_of_a_paper_recipe_has_a_comment(stem: str) -> None:
    lines = RECIPES[stem].read_text(encoding="utf-8").splitlines()
    numbers = [line for line in lines if re.match(r" *\w+: *(\[|-?\d)", line)]
    assert len(numbers) > 15
    assert not [line for line in numbers if not re.search(r"  # \S", line)]


@pytest.mark.parametrize("stem", PAPER)
def test_a_paper_recipe_says_its_departures_and_the_licences_of_its_data(stem: str) -> None:
    recipe = load(stem)
    assert recipe.paper
    assert recipe.limits
    for data in filter(None, (*recipe.sources, recipe.target)):
        assert data.licence == LAYOUTS[data.layout].licence


@pytest.mark.parametrize("stem", PAIRS)
def test_hrda_differs_from_daformer_in_resolution_alone(stem: str) -> None:
    """Twice the image, twice the crop, four times the pixels that a rare class must fill."""
    low, high = load(stem), load(stem.replace("_daformer_", "_hrda_"))
    same = ("method", "optim", "self_training", "generalization", "feature_distance", "appearance", "iterations")
    assert {name: getattr(low, name) for name in same} == {name: getattr(high, name) for name in same}
    assert (high.crop.height, high.crop.width) == (2 * low.crop.height, 2 * low.crop.width)
    assert low.source.rcs_min_crop_ratio * (4 if low.source.rcs_temperature else 1) == high.source.rcs_min_crop_ratio
    sizes = [(low.crop.resize, high.crop.resize)]
    sizes += [(a.resize, b.resize) for a, b in zip(low.validation, high.validation, strict=True)]
    if low.target is not None and high.target is not None:
        sizes.append((low.target.resize, high.target.resize))
    for half, full in sizes:
        assert half is not None
        assert full is not None
        assert tuple(full) == (2 * half[0], 2 * half[1])


def test_the_documentation_lists_every_paper_recipe() -> None:
    named = set(re.findall(r"`(\w+)`", EXPERIMENTS.read_text(encoding="utf-8")))
    assert set(PAPER) <= named


def test_the_documentation_lists_ablations() -> None:
    assert len(ablations()) > 20


@pytest.mark.parametrize(("stem", "options"), ablations())
def test_every_ablation_of_the_documentation_changes_its_recipe_and_names_a_network(stem: str, options: str) -> None:
    recipe = load(stem, options)
    assert recipe != load(stem)
    resolve_preset(recipe.model.preset, **recipe.model.overrides)
    if recipe.model.overrides:  # the networks of presets as they are belong to other tests
        network_of(recipe)
