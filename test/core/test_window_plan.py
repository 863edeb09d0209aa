"""Window geometry, for any image size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrda_core.errors import BackendError, ImageError
from hrda_core.window_plan import PLAN_NAMES, CropBox, plan_windows

sides = st.integers(1, 5000)
grids = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(height=sides, width=sides, grid=grids)
def test_tiles_cover_every_pixel_of_the_padded_image_once(height: int, width: int, grid: tuple[int, int]) -> None:
    plan = plan_windows("tiles", height, width, grid=grid)
    coverage = np.zeros((plan.padded_height // 8, plan.padded_width // 8), int)
    for box in plan.detail:
        coarse = box.scaled_down(8)
        coverage[coarse.y1 : coarse.y2, coarse.x1 : coarse.x2] += 1
    assert sum(box.height * box.width for box in plan.detail) == plan.padded_height * plan.padded_width
    if all(box.height % 8 == 0 and box.width % 8 == 0 for box in plan.detail):
        assert (coverage == 1).all()


@given(name=st.sampled_from(PLAN_NAMES), height=sides, width=sides)
def test_padding_is_the_least_that_fits(name: str, height: int, width: int) -> None:
    plan = plan_windows(name, height, width, multiple_of=64)
    for side, padded in ((height, plan.padded_height), (width, plan.padded_width)):
        assert padded % 64 == 0
        assert 0 <= padded - side < 64


@given(height=sides, width=sides)
def test_all_tiles_have_one_size(height: int, width: int) -> None:
    assert len({(box.height, box.width) for box in plan_windows("tiles", height, width).detail}) == 1


def test_tiles_stand_in_row_major_order() -> None:
    boxes = plan_windows("tiles", 128, 256).detail
    assert boxes == (
        CropBox(0, 64, 0, 128),
        CropBox(0, 64, 128, 256),
        CropBox(64, 128, 0, 128),
        CropBox(64, 128, 128, 256),
    )


def test_context_has_no_detail() -> None:
    assert plan_windows("context", 1080, 1920).detail == ()


def test_an_unknown_plan_lists_the_known_ones() -> None:
    with pytest.raises(BackendError, match="context, tiles"):
        plan_windows("spiral", 10, 10)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_an_empty_image_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="empty"):
        plan_windows("tiles", *size)
