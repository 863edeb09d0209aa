"""Colours, light, sharpness and noise."""

from __future__ import annotations

import numpy as np
import pytest
from golden import golden

from hrda_core.data.augmentation.appearance import AppearanceConfig, augment_appearance, photometric_distortion

STRONG = AppearanceConfig(gamma=2, darken=0.3, colour_cast=0.3, grey=0.5, blur=1.5, noise=10)


@pytest.mark.parametrize("draw", range(4))
def test_photometric_distortion_equals_the_reference_in_every_pixel(draw: int) -> None:
    expected = golden("pipeline")
    image = np.ascontiguousarray(expected["image_bgr"][..., ::-1])
    rng = np.random.RandomState(int(expected[f"pmd{draw}_seed"]))
    np.testing.assert_array_equal(photometric_distortion(image, rng)[..., ::-1], expected[f"pmd{draw}"])


@pytest.mark.parametrize("seed", range(5))
def test_appearance_keeps_shape_and_type_and_is_repeatable(seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8)
    first = augment_appearance(image.copy(), STRONG, np.random.RandomState(seed))
    second = augment_appearance(image.copy(), STRONG, np.random.RandomState(seed))
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    assert (first != image).any()


def test_appearance_can_be_switched_off() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    off = AppearanceConfig(photometric=False)
    for seed in range(10):
        np.testing.assert_array_equal(augment_appearance(image, off, np.random.RandomState(seed)), image)
