"""Window geometry, for any image size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrda_core.errors import BackendError, ImageError, RecipeError
from hrda_core.window_plan import (
    HRDA_PLANS,
    PLAN_NAMES,
    SINGLE_SCALE_PLANS,
    CropBox,
    PlanChoice,
    SizeRules,
    plan_windows,
    sliding_windows,
)

ALL_PLANS = HRDA_PLANS + SINGLE_SCALE_PLANS
sides = st.integers(1, 5000)
grids = st.tuples(st.integers(1, 4), st.integers(1, 4))
small = st.integers(1, 90)

# Grids of the reference, starts only: rows, columns (scalars.json of the golden set).
REFERENCE_GRIDS = {
    (1024, 2048, 1024, 512): ([0], [0, 512, 1024]),
    (1080, 1920, 1024, 512): ([0, 56], [0, 512, 896]),
    (1024, 1024, 512, 256): ([0, 256, 512], [0, 256, 512]),
    (1080, 1920, 512, 256): ([0, 256, 512, 568], [0, 256, 512, 768, 1024, 1280, 1408]),
    (720, 1280, 1024, 512): ([0], [0, 256]),
    (1152, 2048, 1024, 512): ([0, 128], [0, 512, 1024]),
    (512, 1024, 512, 256): ([0], [0, 256, 512]),
}


@pytest.mark.parametrize(("case", "starts"), REFERENCE_GRIDS.items())
def test_sliding_grids_are_those_of_the_reference(
    case: tuple[int, int, int, int], starts: tuple[list[int], list[int]]
) -> None:
    height, width, crop, stride = case
    high, wide = min(crop, height), min(crop, width)
    expected = [CropBox(y, y + high, x, x + wide) for y in starts[0] for x in starts[1]]
    assert list(sliding_windows((height, width), (crop, crop), (stride, stride))) == expected


@given(height=small, width=small, crop=st.tuples(small, small), data=st.data())
def test_sliding_windows_cover_every_pixel_with_equal_windows_inside_the_image(
    height: int, width: int, crop: tuple[int, int], data: st.DataObject
) -> None:
    stride = (data.draw(st.integers(1, crop[0])), data.draw(st.integers(1, crop[1])))
    boxes = sliding_windows((height, width), crop, stride)
    covered = np.zeros((height, width), int)
    for box in boxes:
        assert (box.height, box.width) == (min(crop[0], height), min(crop[1], width))
        assert box.y1 >= 0
        assert box.x1 >= 0
        covered[box.index] += 1
    assert covered.shape == (height, width)
    assert covered.min() >= 1
    assert boxes[-1] == CropBox(height - boxes[0].height, height, width - boxes[0].width, width)
    for axis, start in ((0, "y1"), (1, "x1")):
        starts = sorted({getattr(box, start) for box in boxes})
        assert starts[:-1] == [index * stride[axis] for index in range(len(starts) - 1)]
    assert len(set(boxes)) == len(boxes)


@pytest.mark.parametrize(("crop", "stride"), [((8, 8), (9, 8)), ((8, 8), (0, 8)), ((0, 8), (1, 8))])
def test_strides_that_leave_gaps_are_refused(crop: tuple[int, int], stride: tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match="stride must lie in"):
        sliding_windows((100, 100), crop, stride)


@pytest.mark.parametrize(("size", "listed", "distinct"), [((1024, 2048), 27, 21), ((1080, 1920), 54, 48)])
def test_nested_windows_list_shared_detail_crops_once(size: tuple[int, int], listed: int, distinct: int) -> None:
    plan = plan_windows("nested", *size)
    assert (plan.padded_height, plan.padded_width) == size
    assert sum(len(own) for own in plan.detail_of) == listed
    assert len(plan.detail) == len(set(plan.detail)) == distinct
    apart = plan_windows("nested", *size, share_detail=False)
    assert len(apart.detail) == sum(len(own) for own in apart.detail_of) == listed
    for window, shared, own in zip(plan.windows, plan.detail_of, apart.detail_of, strict=True):
        assert [plan.detail[i] for i in shared] == [apart.detail[i] for i in own]
        inside = [box.shifted(-window.y1, -window.x1) for box in (plan.detail[i] for i in shared)]
        assert tuple(inside) == sliding_windows((1024, 1024), (512, 512), (256, 256))


@pytest.mark.parametrize(("size", "crops"), [((1024, 2048), 21), ((1080, 1920), 28), ((512, 1024), 3)])
def test_overlap_slides_detail_crops_over_the_whole_image(size: tuple[int, int], crops: int) -> None:
    plan = plan_windows("overlap", *size)
    assert plan.windows == (CropBox(0, size[0], 0, size[1]),)
    assert plan.detail == sliding_windows(size, (512, 512), (256, 256))
    assert len(plan.detail) == crops


@given(name=st.sampled_from(ALL_PLANS), height=st.integers(1, 700), width=st.integers(1, 700), shared=st.booleans())
def test_windows_and_details_of_every_plan_cover_the_padded_image(
    name: str, height: int, width: int, shared: bool
) -> None:
    choice = PlanChoice(name, crop=(128, 192)) if name in ("nested", "slide") else PlanChoice(name)
    plan = plan_windows(choice, height, width, SizeRules(detail_crop=(64, 96), smallest=32), share_detail=shared)
    assert plan.padded_height >= max(height, 32)
    assert plan.padded_width >= max(width, 32)
    assert len({(box.height, box.width) for box in plan.windows}) == 1
    assert len({(box.height, box.width) for box in plan.detail}) <= 1
    for boxes in (plan.windows, plan.detail):
        covered = np.zeros((plan.padded_height, plan.padded_width), bool)
        for box in boxes:
            covered[box.index] = True
        assert covered.all() or not boxes
    assert len(plan.detail_of) == len(plan.windows)
    assert bool(plan.detail) == (name in ("nested", "overlap", "tiles", "topk"))
    for window, indices in zip(plan.windows, plan.detail_of, strict=True):
        for box in (plan.detail[i] for i in indices):
            assert window.y1 <= box.y1 < box.y2 <= window.y2
            assert window.x1 <= box.x1 < box.x2 <= window.x2
            assert name in ("tiles", "topk") or (box.y1 - window.y1) % 8 == (box.x1 - window.x1) % 8 == 0


@given(height=sides, width=sides)
def test_sides_as_long_as_the_outer_window_are_not_padded(height: int, width: int) -> None:
    plan = plan_windows("nested", height, width)
    for side, padded in ((height, plan.padded_height), (width, plan.padded_width)):
        assert padded == (side if side >= 1024 else -(-side // 8) * 8)


@pytest.mark.parametrize(
    ("size", "padded", "tile", "count"),
    [
        ((1080, 1920), (1088, 1920), (544, 640), 6),
        ((1024, 2048), (1024, 2048), (512, 512), 8),
        ((1000, 2040), (1024, 2048), (512, 512), 8),
        ((100, 100), (128, 128), (128, 128), 1),
    ],
)
def test_tiles_chosen_from_the_detail_crop_are_at_least_as_large(
    size: tuple[int, int], padded: tuple[int, int], tile: tuple[int, int], count: int
) -> None:
    plan = plan_windows("tiles", *size, SizeRules(tile_multiple=32))
    assert (plan.padded_height, plan.padded_width) == padded
    assert {(box.height, box.width) for box in plan.detail} == {tile}
    assert len(plan.detail) == count


@given(height=sides, width=sides, grid=grids)
def test_tiles_cover_every_pixel_of_the_padded_image_once(height: int, width: int, grid: tuple[int, int]) -> None:
    plan = plan_windows(PlanChoice("tiles", grid), height, width)
    coverage = np.zeros((plan.padded_height // 8, plan.padded_width // 8), int)
    for box in plan.detail:
        coverage[box.scaled(1 / 8).index] += 1
    assert sum(box.height * box.width for box in plan.detail) == plan.padded_height * plan.padded_width
    if all(box.height % 8 == 0 and box.width % 8 == 0 for box in plan.detail):
        assert (coverage == 1).all()


@given(name=st.sampled_from(PLAN_NAMES), height=sides, width=sides)
def test_padding_is_the_least_that_fits(name: str, height: int, width: int) -> None:
    choice = PlanChoice(name, grid=(2, 2) if name == "tiles" else None)
    plan = plan_windows(choice, height, width, SizeRules(multiple_of=64))
    for side, padded in ((height, plan.padded_height), (width, plan.padded_width)):
        assert padded % 64 == 0
        assert 0 <= padded - side < 64


@given(height=sides, width=sides, grid=grids)
def test_tiles_have_sides_of_the_multiple_asked_for(height: int, width: int, grid: tuple[int, int]) -> None:
    plan = plan_windows(PlanChoice("tiles", grid), height, width, SizeRules(tile_multiple=32))
    assert len(plan.detail) == grid[0] * grid[1]
    assert {(box.height % 32, box.width % 32) for box in plan.detail} == {(0, 0)}


def test_tiles_stand_in_row_major_order() -> None:
    boxes = plan_windows(PlanChoice("tiles", (2, 2)), 128, 256).detail
    assert boxes == (
        CropBox(0, 64, 0, 128),
        CropBox(0, 64, 128, 256),
        CropBox(64, 128, 0, 128),
        CropBox(64, 128, 128, 256),
    )


@pytest.mark.parametrize("name", ["context", "whole", "slide"])
def test_plans_without_detail_have_windows_only(name: str) -> None:
    plan = plan_windows(name, 1080, 1920)
    assert plan.detail == ()
    assert set(plan.detail_of) == {()}


def test_a_box_on_a_coarser_grid_is_truncated() -> None:
    box = CropBox(24, 88, 61, 157)
    assert box.scaled(0.25) == CropBox(6, 22, 15, 39)
    assert box.scaled(0.1) == CropBox(2, 8, 6, 15)
    assert CropBox(0, 30, 0, 30).scaled(0.1) == CropBox(0, 3, 0, 3)  # 30 * 0.1 is a little more than 3


def test_bundles_carry_only_plans_that_a_grid_describes() -> None:
    assert set(PLAN_NAMES) == {"context", "tiles"} <= set(HRDA_PLANS)


def test_an_unknown_plan_lists_the_known_ones() -> None:
    with pytest.raises(BackendError, match="nested, overlap, tiles, topk, context, whole, slide"):
        plan_windows("spiral", 10, 10)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
@pytest.mark.parametrize("name", ALL_PLANS)
def test_an_empty_image_is_refused(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="empty"):
        plan_windows(name, *size)


@pytest.mark.parametrize("crop", [(100, 104), (56, 64), (0, 64)])
def test_outer_windows_off_the_logit_grid_are_refused(crop: tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match="at least 64 pixels and multiples of 8, not"):
        plan_windows(PlanChoice("nested", crop=crop), 300, 300, SizeRules(smallest=64))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"name": "tiles", "grid": (0, 2)}, RecipeError, "at least 1 row"),
        ({"name": "topk", "keep": 0}, RecipeError, "runs 1 or more of its detail tiles, not 0"),
        ({"name": "tiles", "overlap": -8}, RecipeError, "share 0 pixels or more, not -8"),
        (
            {"name": "slide", "crop": (64, 64), "stride": (32, 65)},
            RecipeError,
            "each stride must lie in 1..window side",
        ),
        ({"name": "slide", "stride": (0, 8)}, RecipeError, "each stride must lie in 1..window side"),
        ({"name": "context", "grid": (2, 2)}, BackendError, "grid is for window plan tiles or topk, not for 'context'"),
        ({"name": "nested", "overlap": 8}, BackendError, "overlap is for window plan tiles or topk, not for 'nested'"),
        ({"name": "tiles", "keep": 2}, BackendError, "keep is for window plan topk, not for 'tiles'; leave it out"),
        ({"name": "tiles", "crop": (8, 8)}, BackendError, "crop is for window plan nested or slide, not for 'tiles'"),
        ({"name": "whole", "stride": (8, 8)}, BackendError, "stride is for window plan nested or slide"),
        ({"name": "rotate"}, BackendError, "'rotate' of earlier releases is gone, .* use 'topk'"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused_when_it_is_made(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        PlanChoice(**options)


def test_a_choice_goes_where_a_name_goes_and_takes_no_options_beside_its_own() -> None:
    choice = PlanChoice("tiles", (1, 2))
    assert PlanChoice.of(choice) is choice
    assert PlanChoice.of("tiles", grid=(1, 2)) == choice
    with pytest.raises(TypeError, match="found overlap beside it"):
        PlanChoice.of(choice, overlap=8)
