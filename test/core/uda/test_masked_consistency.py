"""Patch masks of MIC: the reference's mask, and what every mask promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from golden import golden_fixture
from hypothesis import given, settings
from hypothesis import strategies as st

from hrda_core.errors import RecipeError
from hrda_core.uda.masked_consistency import MicConfig, draw_patch_field, patch_mask

load = golden_fixture()


def test_the_mask_equals_the_reference(load: Any) -> None:
    expected = load("mic_mask")
    mask = patch_mask(torch.from_numpy(expected["uniform"][:, 0]), float(expected["ratio"]), (96, 128))
    np.testing.assert_array_equal(mask.numpy(), expected["mask"][:, 0].astype(bool))


def test_a_field_has_one_value_a_patch_as_in_the_reference(load: Any) -> None:
    expected = load("mic_mask")
    field = draw_patch_field(np.random.RandomState(0), 96, 128, int(expected["block"]))
    assert field.shape == expected["uniform"].shape[2:]
    assert field.dtype == np.float32
    assert len(np.unique(field)) == field.size


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    block=st.integers(1, 64),
    ratio=st.floats(0, 0.95),
    seed=st.integers(0, 99),
)
def test_each_pixel_follows_the_value_of_its_patch(
    height: int, width: int, block: int, ratio: float, seed: int
) -> None:
    field = torch.from_numpy(draw_patch_field(np.random.RandomState(seed), height, width, block))[None]
    mask = patch_mask(field, ratio, (height, width))
    assert mask.dtype == torch.bool
    assert mask.shape == (1, height, width)
    rows, columns = (
        torch.arange(side) * count // side for side, count in ((height, field.shape[1]), (width, field.shape[2]))
    )
    # Positions on the border between two patches may fall to either, by rounding; away from it there is no choice.
    inner = (torch.arange(height) * field.shape[1] % height != 0)[:, None] & (
        torch.arange(width) * field.shape[2] % width != 0
    )
    expected = (field[0] > ratio)[rows][:, columns]
    assert torch.equal(mask[0][inner], expected[inner])


def test_the_share_of_hidden_pixels_is_the_ratio() -> None:
    field = torch.from_numpy(draw_patch_field(np.random.RandomState(0), 3200, 3200, 32))[None]
    hidden = 1 - float(patch_mask(field, 0.7, (3200, 3200)).float().mean())
    assert hidden == pytest.approx(0.7, abs=0.01)
    assert bool(patch_mask(field, 0.0, (3200, 3200)).all())


@pytest.mark.parametrize(
    ("size", "grid"), [((20, 90), (1, 1)), ((100, 90), (2, 1)), ((90, 100), (1, 2)), ((640, 1024), (10, 16))]
)
def test_the_number_of_patches_is_rounded_but_never_zero(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert draw_patch_field(np.random.RandomState(0), *size, 64).shape == grid


@pytest.mark.parametrize("values", [{"block": 0}, {"ratio": 1.0}, {"ratio": -0.1}, {"weight": -1.0}])
def test_impossible_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="mic needs"):
        MicConfig(**values)
