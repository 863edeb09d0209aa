"""Resize, crop, flip, margins, normalise, pad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from golden import Golden, golden_fixture
from hypothesis import given, settings
from hypothesis import strategies as st

from hrda_core.data.augmentation import transforms
from hrda_core.data.augmentation.transforms import (
    CropConfig,
    MarginConfig,
    check_target_size,
    normalise,
    pad_to_crop,
    random_crop,
    target_crop,
)
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError, RecipeError
from hrda_core.labels import IGNORE_LABEL
from hrda_core.resizing import resize_image, resize_map, shrink

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
HALF = CropConfig(64, 64)
object.__setattr__(HALF, "height", 48)  # the golden crop is no multiple of 32

load = golden_fixture()


def _pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    labels = (np.arange(height * width, dtype=np.int64) % 7).astype(np.uint8).reshape(height, width)
    return np.repeat(labels[..., None] * 30, 3, axis=2), labels


@settings(max_examples=50, deadline=None)
@given(height=st.integers(8, 90), width=st.integers(8, 90), seed=st.integers(0, 999))
def test_every_padded_crop_has_the_asked_size_and_its_padding_is_zero_and_ignored(
    height: int, width: int, seed: int
) -> None:
    config = CropConfig(64, 32, scale_min=0.5, scale_max=2.0)
    image, labels = random_crop(*_pair(height, width), config, np.random.RandomState(seed))
    assert image.shape[:2] == labels.shape
    assert set(np.unique(labels)) <= set(range(7))
    normal, padded = pad_to_crop(normalise(image, MEAN, STD), labels, config, IGNORE_LABEL)
    assert normal.shape == (3, 64, 32)
    assert padded.shape == (64, 32)
    assert np.count_nonzero(padded != IGNORE_LABEL) == labels.size
    assert not normal[:, padded == IGNORE_LABEL].any()
    np.testing.assert_array_equal(normal[:, : labels.shape[0], : labels.shape[1]], normalise(image, MEAN, STD))


@pytest.mark.parametrize("draw", range(3))
def test_the_drawn_box_equals_the_reference(draw: int, load: Callable[[str], Golden]) -> None:
    expected = load("pipeline")
    rng = np.random.RandomState(int(expected[f"crop{draw}_seed"]))
    box = transforms._draw_box(expected["label"], HALF, rng, True)
    np.testing.assert_array_equal(expected["label"][box], expected[f"crop{draw}_label"])
    np.testing.assert_array_equal(expected["image_bgr"][box], expected[f"crop{draw}_img"])


def test_normalisation_equals_the_reference(load: Callable[[str], Golden]) -> None:
    expected = load("pipeline")
    image = normalise(expected["image_bgr"][..., ::-1], MEAN, STD)
    np.testing.assert_allclose(
        expected.sample("normalized_rgb_chw", image), expected["normalized_rgb_chw"], rtol=0, atol=1e-6
    )


def test_the_resize_comes_before_the_crop() -> None:
    image, labels = _pair(60, 80)
    config = CropConfig(32, 64, resize=(160, 120), flip=0, max_class_share=1)
    crop, ids = random_crop(image, labels, config, np.random.RandomState(0))
    big, big_ids = resize_image(image, 120, 160, "bilinear"), resize_map(labels, 120, 160)
    rng = np.random.RandomState(0)
    y, x = rng.randint(0, 89), rng.randint(0, 97)
    np.testing.assert_array_equal(crop, big[y : y + 32, x : x + 64])
    np.testing.assert_array_equal(ids, big_ids[y : y + 32, x : x + 64])


def test_image_and_labels_move_together() -> None:
    config = CropConfig(32, 32, flip=0.5)
    for seed in range(8):
        image, labels = random_crop(*_pair(80, 90), config, np.random.RandomState(seed))
        np.testing.assert_array_equal(image[..., 0], labels * 30)


def test_a_crop_of_one_class_is_drawn_again() -> None:
    labels = np.zeros((64, 640), np.uint8)
    labels[:, 320:] = 1
    image = np.zeros((64, 640, 3), np.uint8)

    config = CropConfig(64, 64, max_class_share=0.9, flip=0)
    crops = (random_crop(image, labels, config, np.random.RandomState(seed))[1] for seed in range(100))
    mixed = sum(0.1 < crop.mean() < 0.9 for crop in crops)
    assert mixed > 40  # one draw shows both classes in 9 of 100 cases, eleven draws in 64


def test_normalise_gives_channel_first_floats() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    image[..., 1] = 255
    result = normalise(image, (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
    assert result.shape == (3, 2, 4)
    assert result.dtype == np.float32
    assert result[0, 0, 0] == -1
    assert result[1, 0, 0] == 1


@pytest.mark.parametrize(
    "values",
    [
        {"height": 33},
        {"width": 0},
        {"scale_min": 0.0},
        {"scale_min": 2.0},
        {"resize": (0, 9)},
        {"long_side": -1},
        {"interpolation": "cubic"},
        {"flip": 1.5},
        {"max_class_share": 0.0},
    ],
)
def test_impossible_crops_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        CropConfig(**values)


@pytest.mark.parametrize("seed", range(6))
def test_the_trust_mask_moves_with_the_target_image(seed: int) -> None:
    margins = MarginConfig(top=10, bottom=20, left=6, right=4)
    image = np.full((80, 120, 3), 200, np.uint8)
    image[~margins.trust(80, 120)] = 0  # the margins are painted, so that image and mask can be compared
    config = CropConfig(64, 96, flip=0.5)
    crop, trust = target_crop(image, margins, config, np.random.RandomState(seed))
    assert trust.dtype == np.bool_
    np.testing.assert_array_equal(crop[..., 0] == 200, trust)
    assert trust.any()
    assert not trust.all()


@pytest.mark.parametrize("size", [(1080, 1440), (1440, 1920)])
def test_a_target_of_a_drive_is_shrunk_as_the_node_shrinks_it(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    config = CropConfig(480, 640, long_side=640, interpolation="area", flip=0)
    crop, _ = target_crop(image, MarginConfig(), config, np.random.RandomState(0))
    np.testing.assert_array_equal(crop, shrink(image, 640))


def test_a_target_is_never_enlarged_to_its_long_side() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    config = CropConfig(64, 96, long_side=640, interpolation="area", flip=0)
    np.testing.assert_array_equal(target_crop(image, MarginConfig(), config, np.random.RandomState(0))[0], image)


def test_margins_count_pixels_of_the_resized_image() -> None:
    config = CropConfig(64, 96, resize=(96, 64), flip=0)
    _, trust = target_crop(
        np.zeros((128, 192, 3), np.uint8), MarginConfig(8, 16, 2, 3), config, np.random.RandomState(0)
    )
    rows, columns = np.flatnonzero(trust.any(axis=1)), np.flatnonzero(trust.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (8, 47, 2, 92)


@pytest.mark.parametrize("seed", range(5))
def test_a_scaled_target_takes_its_margins_along(seed: int) -> None:
    config = CropConfig(64, 96, scale_min=2, scale_max=2, flip=0)
    image = np.zeros((40, 60, 3), np.uint8)
    _, trust = target_crop(image, MarginConfig(top=10), config, np.random.RandomState(seed))
    top = np.random.RandomState(seed).randint(0, 80 - 64 + 1)
    assert trust.all(axis=1).argmax() == 20 - top  # ten rows of margin became twenty


def test_the_padding_of_a_target_is_not_trusted() -> None:
    config = CropConfig(64, 96)
    image, trust = target_crop(np.zeros((40, 60, 3), np.uint8), MarginConfig(), config, np.random.RandomState(0))
    _, padded = pad_to_crop(normalise(image, MEAN, STD), trust, config, False)
    assert padded.shape == (64, 96)
    assert padded.sum() == 40 * 60


def test_a_target_crop_is_drawn_once_whatever_it_shows() -> None:
    config = CropConfig(32, 32, flip=0)
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(64)[:, None], np.arange(64)[None]
    crop, _ = target_crop(image, MarginConfig(), config, np.random.RandomState(3))
    rng = np.random.RandomState(3)
    assert crop[0, 0, :2].tolist() == [rng.randint(0, 33), rng.randint(0, 33)]


def test_negative_margins_are_refused() -> None:
    with pytest.raises(RecipeError, match="0 or more"):
        MarginConfig(top=-1)


def test_a_target_smaller_than_the_crop_is_refused_with_its_sizes(tmp_path: Path) -> None:
    for name, size in (("a.png", (64, 96)), ("b.png", (60, 96))):
        cv2.imwrite(str(tmp_path / name), np.zeros((*size, 3), np.uint8))
    frames = open_unlabelled(tmp_path)
    with pytest.raises(DataError, match=r"'b\.png' is 96x60 pixels, 96x60 after resizing.*crop of 96x64"):
        check_target_size(frames, CropConfig(64, 96))
    check_target_size(open_unlabelled(tmp_path, names=["a"]), CropConfig(64, 96))
    check_target_size(frames, CropConfig(64, 96, resize=(120, 70)))
    with pytest.raises(DataError, match=r"smallest scale 0\.5"):
        check_target_size(open_unlabelled(tmp_path, names=["a"]), CropConfig(64, 96, scale_min=0.5))


def test_margins_that_cover_the_target_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 96, 3), np.uint8))
    frames = open_unlabelled(tmp_path)
    check_target_size(frames, CropConfig(32, 32), MarginConfig(top=30, bottom=33))
    with pytest.raises(DataError, match=r"cover all of target image 'a\.png'"):
        check_target_size(frames, CropConfig(32, 32), MarginConfig(top=31, bottom=33))


def test_margins_of_the_crop_lie_at_its_border_wherever_it_is() -> None:
    image = np.zeros((96, 128, 3), np.uint8)
    margins = MarginConfig(top=4, bottom=10, of_crop=True)
    for seed in range(5):
        _, trust = target_crop(image, margins, CropConfig(64, 64), np.random.RandomState(seed))
        assert not trust[:4].any()
        assert not trust[-10:].any()
        assert trust[4:-10].all()
