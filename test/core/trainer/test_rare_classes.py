"""Rare Class Sampling of a recipe: a threshold that fits the images, and a table of what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from street_images import CAR, ROAD, SKY, write_street_images

from hrda_core.data.datasets.class_statistics import class_statistics
from hrda_core.data.datasets.labelled import ImageLabelPairs, pair_folders
from hrda_core.data.packs.format import shown_from
from hrda_core.labels import CITYSCAPES19
from hrda_core.trainer.rare_classes import class_draws, min_pixels, sampler
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.recipe_data import SourceConfig
from hrda_core.trainer.sources import open_sources

POLE = 5


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SourceConfig:
    """30 small images; two show a pole of 60 pixels, one of 10."""
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "cache"))
    images, labels = write_street_images(tmp_path / "data", count=30)
    for number, pixels in ((3, 60), (7, 60), (8, 10)):
        path = str(labels / "train" / f"frame{number}.png")
        stored = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        stored[-1, :pixels] = POLE
        cv2.imwrite(path, stored)
    return SourceConfig("made up", images=images, labels=labels)


@pytest.fixture
def pairs(config: SourceConfig) -> ImageLabelPairs:
    assert config.images is not None
    assert config.labels is not None
    return pair_folders(config.images, config.labels)


def test_the_default_threshold_is_that_of_the_papers_at_their_size_and_the_same_share_elsewhere() -> None:
    assert shown_from([1914 * 1052] * 3) == 3000
    assert shown_from([640 * 480, 10, 640 * 480]) == 458


def test_small_images_show_all_their_classes_by_default_and_an_explicit_value_stays(
    config: SourceConfig, pairs: ImageLabelPairs
) -> None:
    statistics = class_statistics(pairs, 19)
    assert min_pixels(config, statistics) == shown_from([96 * 128]) == 18
    found = sampler(config, statistics)
    assert found is not None
    assert sorted(found.classes.tolist()) == [ROAD, POLE, SKY, CAR]
    explicit = replace(config, rcs_min_pixels=3000)
    assert min_pixels(explicit, statistics) == 3000
    found = sampler(explicit, statistics)
    assert found is not None
    assert POLE not in found.classes
    assert sampler(replace(config, rcs_temperature=0), statistics) is None


def test_images_that_are_listed_several_times_are_one_image_of_the_table(
    config: SourceConfig, pairs: ImageLabelPairs
) -> None:
    twice = pairs.take(list(range(30)) * 2)
    draws = class_draws(config, twice, class_statistics(twice, 19))
    assert draws is not None
    assert draws.images[[ROAD, POLE, SKY, CAR]].tolist() == [30, 2, 30, 30]
    assert draws.images.sum() == 92
    assert draws.shares.sum() == pytest.approx(1)
    assert draws.shares[POLE] == draws.shares.max()


def _audit_of(config: SourceConfig) -> str:
    return open_sources(Recipe("tiny", config), 0, 1, lambda text: None).audit


def test_the_audit_shows_draws_and_warns_of_classes_from_few_images(config: SourceConfig) -> None:
    lines = _audit_of(config).splitlines()
    row = next(line.split() for line in lines if " pole " in line)
    assert row[3:5] == ["3", "2"]
    share = float(row[5])
    assert f"warning: drawn from fewer than 20 images: pole (2, {share:.0f} % of the draws);" in "\n".join(lines)
    assert not any("never drawn" in line for line in lines)
    shares = [float(line.split()[-1]) for line in lines if line.startswith("  ") and line.split()[0].isdigit()]
    assert len(shares) == len(CITYSCAPES19)
    assert sum(shares) == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda config: replace(config, rcs_min_pixels=61), "no image shows more than 61 pixels of them: pole;"),
        (lambda config: replace(config, rcs_min_pixels=59), "pole (2, "),
    ],
)
def test_a_threshold_that_loses_a_class_is_a_warning(
    config: SourceConfig, change: Callable[[SourceConfig], SourceConfig], sentence: str
) -> None:
    assert sentence in _audit_of(change(config))


def test_without_rare_class_sampling_there_is_no_table_of_draws(config: SourceConfig) -> None:
    assert "draws" not in _audit_of(replace(config, rcs_temperature=0))


def test_a_crop_is_asked_for_the_share_of_the_threshold_that_fits_the_images(config: SourceConfig) -> None:
    sources = open_sources(Recipe("tiny", replace(config, rcs_min_crop_ratio=0.5)), 0, 1, lambda text: None)
    assert sources.samples.source.min_crop_pixels == 9
    assert np.isin(POLE, sources.samples.source.sampler.classes)  # type: ignore[union-attr]
