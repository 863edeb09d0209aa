"""The classes of a recipe's network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hrda_core.errors import RecipeError
from hrda_core.label_files import read_label_space
from hrda_core.labels import CITYSCAPES19
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.recipe_data import LabelledConfig, SourceConfig, ValidationConfig
from hrda_core.trainer.spaces import recipe_space, with_space

YARD = "classes: [floor, robot]\nthings: [robot]\nids: {3: robot, 7: floor}\n"
IDS = {"floor": [7], "robot": [3], "ignore": [255]}


@pytest.fixture
def yard(tmp_path: Path) -> Path:
    """A label space of two classes with native ids."""
    return _file(tmp_path / "yard.yaml", YARD)


def test_nothing_declared_means_the_classes_of_cityscapes() -> None:
    recipe = _recipe()
    assert recipe_space(recipe) == CITYSCAPES19
    assert with_space(recipe) == recipe


def test_the_label_space_of_the_source_is_that_of_the_network_and_of_its_record(yard: Path) -> None:
    recipe = with_space(_recipe(label_space=yard))
    yard.unlink()
    space = recipe_space(recipe)
    assert (space.name, space.classes, space.things) == ("yard", ("floor", "robot"), (1,))
    assert _written(recipe.source) == IDS
    assert with_space(recipe) == recipe


def test_the_recipe_s_own_label_space_brings_its_ids(yard: Path) -> None:
    recipe = with_space(replace(_recipe(), label_space=yard))
    yard.unlink()
    assert recipe_space(recipe).classes == ("floor", "robot")
    assert _written(recipe.source) == IDS
    assert with_space(recipe) == recipe


def test_a_file_of_ids_alone_declares_no_classes(yard: Path, tmp_path: Path) -> None:
    fine = _file(tmp_path / "fine.yaml", "ids: {1: floor, 2: robot}\n")
    recipe = replace(_recipe(label_space=fine), label_space=yard)
    recipe = with_space(recipe)
    assert recipe_space(recipe).classes == ("floor", "robot")
    fine_ids = {"floor": [1], "robot": [2], "ignore": [255]}
    assert _written(recipe.source) == fine_ids


@pytest.mark.parametrize("kind", ["part", "validation", "layout"])
def test_a_network_has_one_label_space(kind: str, yard: Path, tmp_path: Path) -> None:
    other = _file(tmp_path / "other.yaml", "classes: [floor, robot, crate]\n")
    recipe = _recipe(label_space=yard)
    if kind == "part":
        recipe = replace(recipe, source=[recipe.source, SourceConfig("more", label_space=other)])
    elif kind == "validation":
        recipe = replace(recipe, validation=[ValidationConfig("val", label_space=other)])
    else:
        recipe = replace(recipe, validation=[ValidationConfig("val", layout="cityscapes")])
    with pytest.raises(
        RecipeError, match=r"'(more|val)' has the .* classes of .* is 'yard' of 2 \(it .*one label space"
    ):
        with_space(recipe)


def test_classes_in_another_order_are_matched_by_name(yard: Path, tmp_path: Path) -> None:
    turned = _file(tmp_path / "turned.yaml", "classes: [robot, floor]\nthings: [robot]\n")
    recipe = with_space(replace(_recipe(label_space=yard), validation=[ValidationConfig("val", label_space=turned)]))
    assert recipe_space(recipe).classes == ("floor", "robot")
    stored = {"floor": [1], "robot": [0], "ignore": [255]}
    assert _written(recipe.validation[0]) == stored


def test_a_public_data_set_is_read_in_the_order_of_the_network_s_classes() -> None:
    turned = list(reversed(CITYSCAPES19.classes))
    recipe = replace(_recipe(), label_space={"classes": turned})
    recipe = with_space(replace(recipe, source=SourceConfig("city", layout="cityscapes", root=Path("city"))))
    assert isinstance(recipe.source, SourceConfig)
    assert isinstance(recipe.source.label_space, dict)
    found, ids = read_label_space(recipe.source.label_space, recipe_space(recipe))
    assert ids is not None
    assert found.classes[ids.table[7]] == "road"
    assert found.classes[ids.table[33]] == "bicycle"
    assert list(recipe_space(recipe).classes) == turned


def test_things_that_differ_are_refused_unless_the_recipe_says_which(yard: Path, tmp_path: Path) -> None:
    other = _file(tmp_path / "other.yaml", "classes: [floor, robot]\nthings: [floor]\n")
    recipe = replace(_recipe(label_space=yard), validation=[ValidationConfig("val", label_space=other)])
    with pytest.raises(RecipeError, match="other things"):
        with_space(recipe)
    assert recipe_space(with_space(replace(recipe, label_space=yard))).things == (1,)


def test_masks_in_colours_are_read_through_the_palette_of_their_own_file_or_the_network_s(tmp_path: Path) -> None:
    red, blue = [200, 0, 0], [0, 0, 200]
    own = _file(tmp_path / "own.yaml", f"classes: [robot, floor]\npalette: [{red}, {blue}]\n")
    coloured = ValidationConfig("val", label_space=own, label_colors=True)
    other = ValidationConfig("other", label_colors=True)
    recipe = with_space(replace(_recipe(), label_space={"classes": ["floor", "robot"]}, validation=[coloured, other]))
    first, second = (config.label_space for config in recipe.validation)
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert (first["classes"], first["palette"]) == (["floor", "robot"], [blue, red])
    assert second["palette"] == [list(colour) for colour in recipe_space(recipe).palette]


def _written(config: LabelledConfig) -> dict[str, list[int]]:
    """The ids that a recipe keeps of a label space file of the yard."""
    assert isinstance(config.label_space, dict)
    assert config.label_space["classes"] == ["floor", "robot"]
    ids: dict[str, list[int]] = config.label_space["ids"]
    return ids


def _file(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _recipe(**source: Path) -> Recipe:
    return Recipe("run", SourceConfig("own", images=Path("images"), labels=Path("labels"), **source))
