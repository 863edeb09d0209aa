"""Random crops and appearance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hrda_core.data.transforms import AppearanceConfig, CropConfig, augment_appearance, normalise, random_crop
from hrda_core.errors import RecipeError

STRONG = AppearanceConfig(gamma=2, darken=0.3, colour_cast=0.3, grey=0.5, blur=1.5, noise=10)


def _pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    labels = (np.arange(height * width, dtype=np.int64) % 7).astype(np.uint8).reshape(height, width)
    return np.repeat(labels[..., None] * 30, 3, axis=2), labels


@settings(max_examples=50, deadline=None)
@given(height=st.integers(8, 90), width=st.integers(8, 90), seed=st.integers(0, 999))
def test_every_crop_has_the_asked_size_and_padding_is_ignored(height: int, width: int, seed: int) -> None:
    config = CropConfig(64, 32, scale_min=0.5, scale_max=2.0)
    image, labels = random_crop(*_pair(height, width), config, np.random.RandomState(seed))
    assert image.shape == (64, 32, 3)
    assert labels.shape == (64, 32)
    assert set(np.unique(labels)) <= {*range(7), 255}
    assert not image[labels == 255].any()


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


def test_normalise_gives_channel_first_floats() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    image[..., 1] = 255
    result = normalise(image, (127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
    assert result.shape == (3, 2, 4)
    assert result.dtype == np.float32
    assert result[0, 0, 0] == -1
    assert result[1, 0, 0] == 1


@pytest.mark.parametrize("values", [{"height": 33}, {"width": 0}, {"scale_min": 0.0}, {"scale_min": 2.0}])
def test_impossible_crops_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(RecipeError):
        CropConfig(**values)  # type: ignore[arg-type]
