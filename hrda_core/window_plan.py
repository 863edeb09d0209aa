"""Window plans: how an image is cut for a network. One geometry for torch, ONNX and training; pure Python.

A plan says how far the image is padded, which windows the network sees, and where the full-resolution detail crops of
HRDA lie (paper section 3.4, "HRDA"; names, costs and the choice between them: docs/robot/window_plans.md).

    nested    outer windows on a sliding grid, each a context with overlapping detail crops: the paper's test mode
    overlap   one context of the whole image, overlapping detail crops
    tiles     one context of the whole image, disjoint detail tiles of equal size, or ones that overlap a little
    topk      as tiles, but only the `keep` tiles run where the context says that detail matters; elsewhere the context
              stands alone
    context   the context alone
    whole     single-scale networks: the whole image at once
    slide     single-scale networks: windows on a sliding grid

All boxes are in pixels of the padded image. Padding is at the bottom and right only, so that a pixel keeps its
coordinates and results are cropped by `[:height, :width]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from types import EllipsisType

from hrda_core.errors import BackendError, ImageError, RecipeError

__all__ = [
    "GRAPH_PLANS",
    "HRDA_PLANS",
    "PLAN_NAMES",
    "SINGLE_SCALE_PLANS",
    "CropBox",
    "WindowPlan",
    "check_plan_name",
    "plan_windows",
    "sliding_windows",
]

HRDA_PLANS = ("nested", "overlap", "tiles", "topk", "context")
"""Plans for one image through an HRDA network."""

SINGLE_SCALE_PLANS = ("whole", "slide")

PLAN_NAMES = ("context", "tiles")
"""Plans of HRDA that a bundle carries as a graph for any image size: those whose crops depend on a grid alone."""

GRAPH_PLANS = ("tiles", "overlap", "topk", "context", "whole")
"""Plans that a bundle may carry as a graph for one image size."""

Size = tuple[int, int]
"""Height and width, pixels."""


@dataclass(frozen=True)
class CropBox:
    """A rectangle of an image, ends exclusive: rows y1..y2, columns x1..x2, in pixels."""

    y1: int
    y2: int
    x1: int
    x2: int

    @property
    def height(self) -> int:
        """Rows covered."""
        return self.y2 - self.y1

    @property
    def width(self) -> int:
        """Columns covered."""
        return self.x2 - self.x1

    @property
    def index(self) -> tuple[EllipsisType, slice, slice]:
        """What cuts the box out of the last two axes of an array or tensor: `image[box.index]`."""
        return ..., slice(self.y1, self.y2), slice(self.x1, self.x2)

    def scaled(self, factor: float) -> CropBox:
        """The box on another grid, each coordinate multiplied and truncated (as the reference truncates)."""
        y1, y2, x1, x2 = (math.floor(side * factor + 1e-6) for side in (self.y1, self.y2, self.x1, self.x2))
        return CropBox(y1, y2, x1, x2)

    def shifted(self, rows: int, columns: int) -> CropBox:
        """The box moved down by `rows` and right by `columns`."""
        return CropBox(self.y1 + rows, self.y2 + rows, self.x1 + columns, self.x2 + columns)


@dataclass(frozen=True)
class WindowPlan:
    """Where to look in one image of a given size.

    Attributes:
        name: one of `HRDA_PLANS` or `SINGLE_SCALE_PLANS`.
        height, width: size of the image as it came, pixels.
        padded_height, padded_width: size after padding at the bottom and right, pixels.
        context_scale: factor from a window to its context image, 0 to 1.
        windows: what the context branch (or a single-scale network) sees, row-major, all of one size.
        detail: distinct detail crops, all of one size; empty for `context`, `whole` and `slide`.
        detail_of: for each window the indices of its detail crops, in row-major order within the window.
        keep: how many of the detail crops run for one image (`topk`); 0 = all.
    """

    name: str
    height: int
    width: int
    padded_height: int
    padded_width: int
    context_scale: float
    windows: tuple[CropBox, ...]
    detail: tuple[CropBox, ...]
    detail_of: tuple[tuple[int, ...], ...]
    keep: int = 0

    @property
    def crops_run(self) -> int:
        """Detail crops that the network sees for one image."""
        return self.keep or len(self.detail)


def sliding_windows(size: Size, crop: Size, stride: Size) -> tuple[CropBox, ...]:
    """Equal windows that cover an image; the last of a row or column is shifted back, never padded.

    Per axis there are `max(size - crop + stride - 1, 0) // stride + 1` windows; an axis shorter than the crop has one
    window of its full length. Row-major order.

    Raises:
        RecipeError: a crop below 1 pixel, or a stride below 1 or beyond the crop, which would leave gaps.
    """
    for side, step in zip(crop, stride, strict=True):
        if not 1 <= step <= side:
            raise RecipeError(f"windows of {crop} pixels with stride {stride}: each stride must lie in 1..window side")
    rows, columns = (_positions(*axis) for axis in zip(size, crop, stride, strict=True))
    return tuple(CropBox(y1, y2, x1, x2) for y1, y2 in rows for x1, x2 in columns)


def plan_windows(
    name: str,
    height: int,
    width: int,
    *,
    grid: tuple[int, int] | None = (2, 2),
    multiple_of: int | None = None,
    tile_multiple: int = 1,
    context_scale: float = 0.5,
    smallest: int = 1,
    detail_crop: Size = (512, 512),
    detail_stride: Size | None = None,
    crop: Size | None = None,
    stride: Size | None = None,
    share_detail: bool = True,
    overlap: int = 0,
    keep: int | None = None,
    step: int = 8,
) -> WindowPlan:
    """Cut an image of `height` x `width` pixels.

    Args:
        name: one of `HRDA_PLANS` or `SINGLE_SCALE_PLANS`. What is said of `tiles` holds for `topk` too.
        height, width: image size, at least 1 x 1.
        grid: `tiles`: rows and columns of detail tiles; each side of the padded image divides evenly by it. None = as
            many tiles, of at least the size of `detail_crop`, as fit.
        multiple_of: sides are padded up to a multiple of this. None = 64 for `tiles` and `context` (half-size context
            and 2 x 2 tiles are then on the stride-32 grid that encoders train on), 8 for `nested` and `overlap`
            (where the reference would raise), 1 for `whole` and `slide`.
        tile_multiple: `tiles`: sides of a tile are multiples of this.
        context_scale: factor of the context image.
        smallest: sides are padded up to this at least.
        detail_crop, detail_stride: `nested`, `overlap`: size of detail crops and step between them (None = half).
        crop, stride: `nested`, `slide`: size of outer windows (None = twice the detail crop for `nested`, 512 x 512
            for `slide`) and step between them (None = half). An axis as long as the crop or longer is not padded.
        share_detail: `nested`: list detail crops that several windows have in common once.
        overlap: `tiles`: pixels that neighbouring tiles share at least, 0 to a quarter of the tile. The image is then
            padded to `multiple_of` alone, and tiles may share more, so that equal ones of the right size fit.
        keep: `topk`: detail tiles that run, 1 to their number; None = half of them, rounded up.
        step: `tiles` that overlap begin at multiples of this, pixels.

    Raises:
        BackendError: unknown plan name.
        ImageError: a side below 1.
        RecipeError: windows or strides that cannot cover an image.
    """
    check_plan_name(name)
    if height < 1 or width < 1:
        raise ImageError(f"an image of {height} x {width} pixels is empty; both sides must be at least 1", "size")
    multiple = multiple_of or _MULTIPLE_OF[name]
    least = max(height, smallest), max(width, smallest)
    if name in _TILED:
        size, detail = _tiles(least, grid, detail_crop, multiple, tile_multiple, overlap, step)
        plan = _plan(name, (height, width), size, context_scale, _whole(size), [detail])
        return plan if name == "tiles" else replace(plan, keep=_kept(name, keep, len(detail)))
    if name in ("nested", "slide"):
        crop = crop or _default_window(name, detail_crop, multiple, smallest)
        _check_window(name, crop, multiple, smallest)
        size = _padded(least, multiple, crop)
        windows = sliding_windows(size, crop, stride or _half(crop))
    else:
        size = _padded(least, multiple)
        windows = _whole(size)
    details = [_detail_of(window, detail_crop, detail_stride) for window in windows] if name in _OVERLAPPING else []
    return _plan(name, (height, width), size, context_scale, windows, details, share_detail)


def check_plan_name(name: str) -> None:
    """Refuse what is no window plan.

    Raises:
        BackendError: `name` is neither in `HRDA_PLANS` nor in `SINGLE_SCALE_PLANS`.
    """
    if name == _REMOVED:
        raise BackendError(
            f"window plan '{name}' of earlier releases is gone, since old detail made masks worse; use 'topk', which "
            f"costs the same, or 'context'"
        )
    if name not in _ALL_PLANS:
        raise BackendError(f"window plan '{name}' is not known; choose one of {', '.join(_ALL_PLANS)}")


_REMOVED = "rotate"
_ALL_PLANS = (*HRDA_PLANS, *SINGLE_SCALE_PLANS)
_OVERLAPPING = ("nested", "overlap")
_TILED = ("tiles", "topk")
_MULTIPLE_OF = {"nested": 8, "overlap": 8, "context": 64, "whole": 1, "slide": 1, **dict.fromkeys(_TILED, 64)}

_Boxes = tuple[CropBox, ...]


def _plan(
    name: str,
    size: Size,
    padded: Size,
    context_scale: float,
    windows: _Boxes,
    details: Sequence[_Boxes],
    share_detail: bool = True,
) -> WindowPlan:
    """Number the detail crops: equal ones once if shared, else one after the other."""
    details = details or [()] * len(windows)
    listed = [box for boxes in details for box in boxes]
    if share_detail:
        numbers = {box: number for number, box in enumerate(dict.fromkeys(listed))}
        detail_of = tuple(tuple(numbers[box] for box in boxes) for boxes in details)
        return WindowPlan(name, *size, *padded, context_scale, windows, tuple(numbers), detail_of)
    ends = list(accumulate(len(boxes) for boxes in details))
    detail_of = tuple(tuple(range(end - len(boxes), end)) for end, boxes in zip(ends, details, strict=True))
    return WindowPlan(name, *size, *padded, context_scale, windows, tuple(listed), detail_of)


def _default_window(name: str, detail_crop: Size, multiple: int, smallest: int) -> Size:
    height, width = (512, 512) if name == "slide" else (2 * detail_crop[0], 2 * detail_crop[1])
    return max(height, _round_up(smallest, multiple)), max(width, _round_up(smallest, multiple))


def _check_window(name: str, crop: Size, multiple: int, smallest: int) -> None:
    if any(side < smallest or side % multiple for side in crop):
        rule = f"of at least {smallest} pixels" + (f" and multiples of {multiple}" if multiple > 1 else "")
        raise RecipeError(f"plan '{name}' takes windows with sides {rule}, not {crop[0]} x {crop[1]}")


def _tiles(
    size: Size,
    grid: tuple[int, int] | None,
    detail_crop: Size,
    multiple: int,
    tile_multiple: int,
    overlap: int,
    step: int,
) -> tuple[Size, _Boxes]:
    """Padded size and tiles of equal size that cover it."""
    if grid is None:
        # Counted on the padded size: 1000 rows hold two tiles of 512, not one of 1024.
        high, wide = (max(1, _round_up(side, multiple) // tile) for side, tile in zip(size, detail_crop, strict=True))
        grid = high, wide
    if min(grid) < 1:
        raise RecipeError(f"a grid of detail tiles has at least 1 row and 1 column, not {grid}")
    if overlap:
        padded = _round_up(size[0], multiple), _round_up(size[1], multiple)
        rows, columns = (
            _overlapping(side, count, overlap, tile_multiple, step) for side, count in zip(padded, grid, strict=True)
        )
        return padded, tuple(CropBox(y1, y2, x1, x2) for y1, y2 in rows for x1, x2 in columns)
    height, width = (
        _round_up(side, math.lcm(multiple, count * tile_multiple)) for side, count in zip(size, grid, strict=True)
    )
    tile = height // grid[0], width // grid[1]
    return (height, width), sliding_windows((height, width), tile, tile)


def _overlapping(size: int, count: int, overlap: int, tile_multiple: int, step: int) -> list[tuple[int, int]]:
    """Start and end of `count` equal tiles along an axis, neighbours sharing `overlap` pixels or a little more."""
    if count == 1 and overlap >= 0:
        return [(0, size)]
    tile = _round_up(-(-(size + (count - 1) * overlap) // count), tile_multiple)
    if overlap < 0 or 4 * overlap > tile or tile >= size:
        raise RecipeError(
            f"tiles that share {overlap} pixels do not fit into {size} pixels, {count} of them and each a multiple of "
            f"{tile_multiple}; ask for 0 to {size // count // 4} pixels or another grid"
        )
    starts = [index * (size - tile) // (count - 1) // step * step for index in range(count - 1)]
    return [(start, start + tile) for start in [*starts, size - tile]]


def _kept(name: str, keep: int | None, tiles: int) -> int:
    if keep is None:
        return -(-tiles // 2)
    if not 1 <= keep <= tiles:
        raise RecipeError(f"plan '{name}' runs 1 to {tiles} of its {tiles} detail tiles, not {keep}")
    return keep


def _detail_of(window: CropBox, crop: Size, stride: Size | None) -> _Boxes:
    """Overlapping detail crops of one window, in coordinates of the image."""
    boxes = sliding_windows((window.height, window.width), crop, stride or _half(crop))
    return tuple(box.shifted(window.y1, window.x1) for box in boxes)


def _padded(size: Size, multiple: int, crop: Size | None = None) -> Size:
    """Sides shorter than the crop (all, if None) are rounded up; longer ones end in a window that is shifted back."""
    height, width = (
        side if crop is not None and side >= crop[axis] else _round_up(side, multiple) for axis, side in enumerate(size)
    )
    return height, width


def _positions(size: int, crop: int, stride: int) -> list[tuple[int, int]]:
    """Start and end of each window along one axis (the reference's grid rule)."""
    ends = [min(i * stride + crop, size) for i in range(max(size - crop + stride - 1, 0) // stride + 1)]
    return [(max(end - crop, 0), end) for end in ends]


def _whole(size: Size) -> _Boxes:
    return (CropBox(0, size[0], 0, size[1]),)


def _half(crop: Size) -> Size:
    return max(1, crop[0] // 2), max(1, crop[1] // 2)


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
