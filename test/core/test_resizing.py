"""Sizes, and the pixels of the papers and of the node."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from golden import Golden, golden_fixture

from hrda_core.resizing import keep_ratio_size, resize_image, resize_map, shrink, shrunk

load = golden_fixture()


def test_bilinear_resizing_equals_the_reference(load: Callable[[str], Golden]) -> None:
    expected = load("pipeline")
    width, height = (int(value) for value in expected["resize_scale_wh"])
    size = keep_ratio_size(96, 128, (width, height))
    assert size == (height, width)
    np.testing.assert_array_equal(resize_image(expected["image_bgr"], *size, "bilinear"), expected["resize_img"])
    np.testing.assert_array_equal(resize_map(expected["label"], *size), expected["resize_label"])


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        ((1052, 1914), (1280, 720), (704, 1280)),
        ((1052, 1914), (2560, 1440), (1407, 2560)),
        ((760, 1280), (2560, 1520), (1520, 2560)),
        ((1080, 1920), (960, 540), (540, 960)),
        ((1914, 1052), (1280, 720), (1280, 704)),
        ((30, 50), None, (30, 50)),
    ],
)
def test_sizes_keep_their_ratio_within_the_limits(
    size: tuple[int, int], limit: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    assert keep_ratio_size(*size, limit) == expected


@pytest.mark.parametrize(
    ("size", "long_side", "expected"),
    [
        ((1080, 1440), 640, (480, 640)),
        ((1440, 1080), 640, (640, 480)),
        ((480, 640), 640, (480, 640)),
        ((100, 200), 640, (100, 200)),
        ((1080, 1440), 0, (1080, 1440)),
        ((1, 2000), 64, (1, 64)),
    ],
)
def test_a_long_side_shrinks_and_never_enlarges(
    size: tuple[int, int], long_side: int, expected: tuple[int, int]
) -> None:
    assert shrunk(*size, long_side) == expected


def test_every_pixel_counts_in_the_area_average() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    blocks = image.reshape(20, 3, 30, 3, 3).mean(axis=(1, 3))
    assert np.abs(shrink(image, 30) - blocks).max() <= 0.5
    assert np.abs(resize_image(image, 20, 30, "bilinear") - blocks).max() > 20  # skips two pixels of three


def test_area_enlarges_as_bilinear_does() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    np.testing.assert_array_equal(resize_image(image, 20, 30, "area"), resize_image(image, 20, 30, "bilinear"))


def test_an_image_of_the_right_size_is_not_copied() -> None:
    image, labels = np.zeros((6, 8, 3), np.uint8), np.zeros((6, 8), np.uint8)
    assert shrink(image, 8) is image
    assert resize_map(labels, 6, 8) is labels


@pytest.mark.parametrize("size", [(7, 9), (60, 100)])
def test_between_two_classes_no_third_one_appears(size: tuple[int, int]) -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[:, 11:] = 10
    resized = resize_map(labels, *size)
    assert resized.shape == size
    assert np.unique(resized).tolist() == [0, 10]
