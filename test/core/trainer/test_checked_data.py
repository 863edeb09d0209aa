"""What a recipe's data are checked for before the first step: validation labels as well as training labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from street_images import write_street_images
from tiny_network import TINY

from hrda_core.data.augmentation.transforms import CropConfig
from hrda_core.errors import DataError
from hrda_core.trainer.recipe import ModelConfig, Recipe
from hrda_core.trainer.recipe_data import SourceConfig, TargetConfig, ValidationConfig
from hrda_core.trainer.sources import open_sources


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "cache"))
    images, labels = write_street_images(tmp_path / "data", count=4)
    scored_images, scored_labels = write_street_images(tmp_path / "val", count=3)
    return Recipe(
        name="tiny",
        method="self_training",
        source=SourceConfig("made up", images=images, labels=labels, rcs_min_pixels=100),
        target=TargetConfig("made up too", path=scored_images),
        validation=[ValidationConfig("scored", images=scored_images, labels=scored_labels)],
        model=ModelConfig(overrides=TINY, imagenet=False, allow_random_backbone=True),
        crop=CropConfig(64, 64),
    )


def _colours(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((96, 128, 3), np.uint8))


def _sixteen_bits(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((96, 128), np.uint16))


def _another_size(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((48, 64), np.uint8))


def _native_ids(path: Path) -> None:
    cv2.imwrite(str(path), np.full((96, 128), 26, np.uint8))


SPOILERS = [
    (_colours, "mode RGB"),
    (_sixteen_bits, "mode I;16"),
    (_another_size, "1 label files differ in size"),
    (_native_ids, "1 label files hold ids 26"),
]


@pytest.mark.parametrize(("spoil", "sentence"), SPOILERS)
def test_bad_validation_labels_stop_before_the_first_step(
    recipe: Recipe, spoil: Callable[[Path], None], sentence: str
) -> None:
    assert recipe.validation[0].labels is not None
    spoil(recipe.validation[0].labels / "train" / "frame1.png")
    with pytest.raises(DataError, match=sentence):
        open_sources(recipe, 0, 1, lambda text: None)


def test_bad_validation_labels_are_left_out_and_counted_in_audit_and_environment(recipe: Recipe) -> None:
    assert recipe.validation[0].labels is not None
    _colours(recipe.validation[0].labels / "train" / "frame1.png")
    said: list[str] = []
    skipping = replace(recipe, validation=[replace(recipe.validation[0], on_bad="skip")])
    sources = open_sources(skipping, 0, 1, said.append)
    assert [path.stem for path in sources.validation[0].images] == ["frame0", "frame2"]
    assert "left out: 1 of 3 pairs" in sources.audit
    assert any("left out: 1 of 3 pairs" in text for text in said)


def test_each_source_says_what_becomes_of_its_bad_pairs(recipe: Recipe, tmp_path: Path) -> None:
    images, labels = write_street_images(tmp_path / "more", count=3)
    _another_size(labels / "train" / "frame2.png")
    more = SourceConfig("more", images=images, labels=labels, on_bad="skip")
    sources = open_sources(replace(recipe, source=[recipe.source, more]), 0, 1, lambda text: None)
    assert len(sources.samples.source) == 4 + 2
    strict = [recipe.source, replace(more, on_bad="stop")]
    with pytest.raises(DataError, match=r"1 label files differ in size.*frame2\.png"):
        open_sources(replace(recipe, source=strict), 0, 1, lambda text: None)


def test_one_target_image_smaller_than_the_crop_can_be_left_out(recipe: Recipe) -> None:
    assert recipe.target is not None
    assert recipe.target.path is not None
    cv2.imwrite(str(recipe.target.path / "train" / "frame1.jpg"), np.zeros((40, 128, 3), np.uint8))
    (recipe.target.path / "train" / "frame2.jpg").write_bytes(b"no jpeg")
    recipe = replace(recipe, validation=[])
    for target in (replace(recipe.target, on_bad="skip"), replace(recipe.target, exclude=["frame1", "frame2"])):
        sources = open_sources(replace(recipe, target=target), 0, 1, lambda text: None)
        assert sources.samples.target is not None
        assert len(sources.samples.target.frames) == 1
        assert ("left out: 2 of 3 images of target 'made up too'" in sources.audit) == (target.on_bad == "skip")
    (recipe.target.path / "train" / "frame2.jpg").unlink()
    with pytest.raises(DataError, match=r"frame1\.jpg' is 128x40 pixels.*exclude or on_bad: skip"):
        open_sources(recipe, 0, 1, lambda text: None)
    (recipe.target.path / "train" / "frame0.jpg").unlink()
    with pytest.raises(DataError, match="none of 1 images can be used"):
        open_sources(replace(recipe, target=replace(recipe.target, on_bad="skip")), 0, 1, lambda text: None)
