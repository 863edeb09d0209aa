"""The random detail crop."""

from __future__ import annotations

import numpy as np
import pytest
from golden import golden_scalars
from hypothesis import given
from hypothesis import strategies as st

from hrda_core.errors import RecipeError
from hrda_core.uda.detail_crop import draw_detail_crop


def test_boxes_equal_the_reference_for_the_same_seed() -> None:
    for case in golden_scalars()["hr_crop_boxes"]:
        rng = np.random.RandomState(case["np_seed"])
        size, crop = (case["h"], case["w"]), tuple(case["crop"])
        for box in case["boxes"]:
            drawn = draw_detail_crop(size, crop, rng)
            assert [drawn.y1, drawn.y2, drawn.x1, drawn.x2] == box


@given(margin=st.tuples(st.integers(0, 200), st.integers(0, 200)), seed=st.integers(0, 1000))
def test_a_box_lies_inside_the_image_on_the_grid_of_8(margin: tuple[int, int], seed: int) -> None:
    size, crop = (64 + margin[0], 96 + margin[1]), (64, 96)
    box = draw_detail_crop(size, crop, np.random.RandomState(seed))
    assert box.y1 % 8 == 0
    assert box.x1 % 8 == 0
    assert 0 <= box.y1 < box.y2 <= size[0]
    assert 0 <= box.x1 < box.x2 <= size[1]
    assert (box.height, box.width) == crop


def test_a_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(RecipeError, match="larger"):
        draw_detail_crop((32, 64), (64, 64), np.random.RandomState(0))
