"""Weights of crops that overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrda_core.errors import RecipeError
from hrda_core.window_plan import PlanChoice, SizeRules, plan_windows
from hrda_core.windows.feather import crop_weights


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    overlap=st.integers(0, 64),
    feathered=st.booleans(),
)
def test_weights_are_positive_and_sum_to_one_everywhere(
    height: int, width: int, grid: tuple[int, int], overlap: int, feathered: bool
) -> None:
    try:
        plan = plan_windows(PlanChoice("tiles", grid, overlap), height, width, SizeRules(tile_multiple=32))
    except RecipeError as error:
        assert "do not fit" in str(error)  # noqa: PT017  # small images have no room for tiles that overlap
        return
    cells = [box.scaled(0.25) for box in plan.detail]
    total = np.zeros((plan.padded_height // 4, plan.padded_width // 4))
    for box, weight in zip(
        cells, crop_weights(cells, (total.shape[0], total.shape[1]), feathered=feathered), strict=True
    ):
        assert weight.shape == (box.height, box.width)
        assert weight.min() > 0
        total[box.index] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_feathered_tiles_fade_over_the_strip_they_share_and_count_alone_elsewhere() -> None:
    plan = plan_windows(PlanChoice("tiles", (1, 2), 32), 64, 256, SizeRules(tile_multiple=32))
    left, right = [box.scaled(0.25) for box in plan.detail]
    weight, other = crop_weights([left, right], (16, 64), feathered=True)
    shared = left.x2 - right.x1
    assert shared >= 8
    assert (weight[:, :-shared] == 1).all()
    assert (np.diff(weight[0, -shared:]) < 0).all()
    np.testing.assert_allclose(weight[:, -shared:], other[:, :shared][:, ::-1], atol=1e-6)


def test_crops_of_the_paper_count_equally() -> None:
    plan = plan_windows("overlap", 64, 128, SizeRules(detail_crop=(64, 64)))
    cells = [box.scaled(0.25) for box in plan.detail]
    weights = crop_weights(cells, (16, 32), feathered=False)
    assert [float(weight.min()) for weight in weights] == pytest.approx([0.5, 0.5, 0.5])
    assert [float(weight.max()) for weight in weights] == pytest.approx([1, 0.5, 1])
