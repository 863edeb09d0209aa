"""Window plans, which say how an image is cut for a network: one geometry in pure Python for torch, ONNX and training.

A plan says how far the image is padded, which windows the network sees, and where the full-resolution detail crops of
HRDA lie (paper section 3.4, "HRDA"; docs/robot/window_plans.md has names, costs and the choice between them). A user
chooses a `PlanChoice`, a network states its `SizeRules`, and both together cut an image of a given size.

    nested    outer windows on a sliding grid, each a context with overlapping detail crops: the paper's test mode
    overlap   one context of the whole image, overlapping detail crops
    tiles     one context of the whole image, disjoint detail tiles of equal size, or tiles that overlap a little
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
from typing import Any

from hrda_core.errors import BackendError, ImageError, RecipeError

__all__ = [
    "GRAPH_PLANS",
    "HRDA_PLANS",
    "PLAN_NAMES",
    "SINGLE_SCALE_PLANS",
    "CropBox",
    "PlanChoice",
    "SizeRules",
    "WindowPlan",
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


_TILED = ("tiles", "topk")
_WINDOWED = ("nested", "slide")
_OPTIONS = {"grid": _TILED, "overlap": _TILED, "keep": ("topk",), "crop": _WINDOWED, "stride": _WINDOWED}
"""Which plans have which options of a `PlanChoice`."""

_REMOVED = "rotate"
_ALL_PLANS = (*HRDA_PLANS, *SINGLE_SCALE_PLANS)


@dataclass(frozen=True)
class PlanChoice:
    """A window plan and its options, the same in commands, recipes, bundles and PyTorch. It is checked when it is made.

    Attributes:
        name: one of `HRDA_PLANS` or `SINGLE_SCALE_PLANS`.
        grid: `tiles`, `topk`: rows and columns of detail tiles; None = as many tiles, of at least the size of the
            network's detail crop, as fit.
        overlap: `tiles`, `topk`: pixels that neighbouring tiles share at least, up to a quarter of the tile; they fade
            into each other there. The image is then padded to `SizeRules.multiple_of` alone.
        keep: `topk`: number of detail tiles that run, from 1; None = half of them, rounded up.
        crop: `nested`, `slide`: height and width of the outer windows, pixels; None = twice the network's detail crop
            for `nested`, 512 x 512 for `slide`. An axis as long as the crop or longer is not padded.
        stride: `nested`, `slide`: steps between outer windows, pixels; None = half of the crop.

    Raises:
        BackendError: the name is not known, or the plan does not have an option that is given.
        RecipeError: a grid, `keep` or stride is below 1, an overlap is negative, or a stride exceeds the crop.
    """

    name: str
    grid: Size | None = None
    overlap: int = 0
    keep: int | None = None
    crop: Size | None = None
    stride: Size | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        for option, plans in _OPTIONS.items():
            if getattr(self, option) != getattr(PlanChoice, option) and self.name not in plans:
                raise BackendError(
                    f"{option} is for window plan {' or '.join(plans)}, not for '{self.name}'; leave it out"
                )
        if self.grid is not None and min(self.grid) < 1:
            raise RecipeError(f"a grid of detail tiles has at least 1 row and 1 column, not {self.grid}")
        if self.overlap < 0:
            raise RecipeError(f"neighbouring tiles share 0 pixels or more, not {self.overlap}")
        if self.keep is not None and self.keep < 1:
            raise RecipeError(f"plan '{self.name}' runs 1 or more of its detail tiles, not {self.keep}")
        if self.stride is not None:
            _check_stride(self.crop or self.stride, self.stride)

    @classmethod
    def of(cls, plan: str | PlanChoice, **options: Any) -> PlanChoice:
        """Return the choice itself, or build one from a name and options, which are the attributes of this class."""
        if not isinstance(plan, PlanChoice):
            return cls(plan, **options)
        if options:
            raise TypeError(f"a PlanChoice has its options already; found {', '.join(options)} beside it")
        return plan


@dataclass(frozen=True)
class SizeRules:
    """The rules of a network for the sizes that it is given.

    Attributes:
        multiple_of: sides of the padded image are multiples of this, pixels. None = 64 for `tiles`, `topk` and
            `context` (half-size context and 2 x 2 tiles are then on the stride-32 grid that encoders train on), 8 for
            `nested` and `overlap` (where the reference would raise an error), 1 for `whole` and `slide`.
        tile_multiple: sides of detail tiles are multiples of this, pixels.
        tile_step: tiles that overlap begin at multiples of this, pixels.
        smallest: sides are padded up to this at least, pixels.
        context_scale: factor of the context image, 0 to 1.
        detail_crop: size of the detail crops of `nested` and `overlap`, pixels.
        detail_stride: steps between these crops, pixels; None = half of their size.
    """

    multiple_of: int | None = None
    tile_multiple: int = 1
    tile_step: int = 8
    smallest: int = 1
    context_scale: float = 0.5
    detail_crop: Size = (512, 512)
    detail_stride: Size | None = None


@dataclass(frozen=True)
class CropBox:
    """A rectangle of an image: rows y1..y2 and columns x1..x2 in pixels, without the ends."""

    y1: int
    y2: int
    x1: int
    x2: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.y2 - self.y1

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.x2 - self.x1

    @property
    def index(self) -> tuple[EllipsisType, slice, slice]:
        """Slices that cut the box out of the last two axes of an array or tensor: `image[box.index]`."""
        return ..., slice(self.y1, self.y2), slice(self.x1, self.x2)

    def scaled(self, factor: float) -> CropBox:
        """Return the box on another grid: each coordinate is multiplied and truncated (as the reference truncates)."""
        y1, y2, x1, x2 = (math.floor(side * factor + 1e-6) for side in (self.y1, self.y2, self.x1, self.x2))
        return CropBox(y1, y2, x1, x2)

    def shifted(self, rows: int, columns: int) -> CropBox:
        """Return the box moved down by `rows` and right by `columns`."""
        return CropBox(self.y1 + rows, self.y2 + rows, self.x1 + columns, self.x2 + columns)


@dataclass(frozen=True)
class WindowPlan:
    """The windows and crops of one image of a given size.

    Attributes:
        name: one of `HRDA_PLANS` or `SINGLE_SCALE_PLANS`.
        height, width: size of the image before padding, pixels.
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
        """Number of detail crops that the network sees for one image."""
        return self.keep or len(self.detail)


def sliding_windows(size: Size, crop: Size, stride: Size) -> tuple[CropBox, ...]:
    """Cover an image with equal windows in row-major order; the last of a row or column is shifted back, never padded.

    Per axis there are `max(size - crop + stride - 1, 0) // stride + 1` windows; an axis shorter than the crop has one
    window of its full length.

    Raises:
        RecipeError: a crop is below 1 pixel, or a stride is below 1 or exceeds the crop, which would leave gaps.
    """
    _check_stride(crop, stride)
    rows, columns = (_positions(*axis) for axis in zip(size, crop, stride, strict=True))
    return tuple(CropBox(y1, y2, x1, x2) for y1, y2 in rows for x1, x2 in columns)


def plan_windows(
    plan: str | PlanChoice, height: int, width: int, rules: SizeRules | None = None, *, share_detail: bool = True
) -> WindowPlan:
    """Cut an image of `height` x `width` pixels.

    Args:
        plan: a choice, or the name of a plan without options.
        height, width: image size, at least 1 x 1.
        rules: the network's rules; None = the defaults of `SizeRules`.
        share_detail: `nested`: list detail crops that several windows have in common only once.

    Raises:
        BackendError: the plan's name is unknown.
        ImageError: a side is below 1.
        RecipeError: windows, strides or tiles cannot cover an image.
    """
    choice, rules = PlanChoice.of(plan), rules or SizeRules()
    name = choice.name
    if height < 1 or width < 1:
        raise ImageError(f"an image of {height} x {width} pixels is empty; both sides must be at least 1", "size")
    multiple = rules.multiple_of or _MULTIPLE_OF[name]
    least = max(height, rules.smallest), max(width, rules.smallest)
    if name in _TILED:
        size, detail = _tiles(least, choice, rules, multiple)
        cut = _plan(name, (height, width), size, rules.context_scale, _whole(size), [detail])
        return cut if name == "tiles" else replace(cut, keep=_kept(choice, len(detail)))
    if name in _WINDOWED:
        crop = choice.crop or _default_window(name, rules, multiple)
        _check_window(name, crop, multiple, rules.smallest)
        size = _padded(least, multiple, crop)
        windows = sliding_windows(size, crop, choice.stride or _half(crop))
    else:
        size = _padded(least, multiple)
        windows = _whole(size)
    details = [_detail_of(window, rules) for window in windows] if name in _OVERLAPPING else []
    return _plan(name, (height, width), size, rules.context_scale, windows, details, share_detail)


def _check_name(name: str) -> None:
    if name == _REMOVED:
        raise BackendError(
            f"window plan '{name}' of earlier releases is gone, since old detail made masks worse; use 'topk', which "
            f"costs the same, or 'context'"
        )
    if name not in _ALL_PLANS:
        raise BackendError(f"window plan '{name}' is not known; choose one of {', '.join(_ALL_PLANS)}")


def _check_stride(crop: Size, stride: Size) -> None:
    if any(not 1 <= step <= side for side, step in zip(crop, stride, strict=True)):
        raise RecipeError(f"windows of {crop} pixels with stride {stride}: each stride must lie in 1..window side")


_OVERLAPPING = ("nested", "overlap")
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


def _default_window(name: str, rules: SizeRules, multiple: int) -> Size:
    height, width = (512, 512) if name == "slide" else (2 * rules.detail_crop[0], 2 * rules.detail_crop[1])
    return max(height, _round_up(rules.smallest, multiple)), max(width, _round_up(rules.smallest, multiple))


def _check_window(name: str, crop: Size, multiple: int, smallest: int) -> None:
    if any(side < smallest or side % multiple for side in crop):
        rule = f"of at least {smallest} pixels" + (f" and multiples of {multiple}" if multiple > 1 else "")
        raise RecipeError(f"plan '{name}' takes windows with sides {rule}, not {crop[0]} x {crop[1]}")


def _tiles(size: Size, choice: PlanChoice, rules: SizeRules, multiple: int) -> tuple[Size, _Boxes]:
    """Padded size and tiles of equal size that cover it."""
    # As many as fit are counted on the padded size: 1000 rows hold two tiles of 512, not one of 1024.
    high, wide = (max(1, _round_up(side, multiple) // tile) for side, tile in zip(size, rules.detail_crop, strict=True))
    grid = choice.grid or (high, wide)
    if choice.overlap:
        padded = _round_up(size[0], multiple), _round_up(size[1], multiple)
        rows, columns = (
            _overlapping(side, count, choice.overlap, rules) for side, count in zip(padded, grid, strict=True)
        )
        return padded, tuple(CropBox(y1, y2, x1, x2) for y1, y2 in rows for x1, x2 in columns)
    height, width = (
        _round_up(side, math.lcm(multiple, count * rules.tile_multiple)) for side, count in zip(size, grid, strict=True)
    )
    tile = height // grid[0], width // grid[1]
    return (height, width), sliding_windows((height, width), tile, tile)


def _overlapping(size: int, count: int, overlap: int, rules: SizeRules) -> list[tuple[int, int]]:
    """Start and end of `count` equal tiles along an axis, neighbours sharing `overlap` pixels or a little more."""
    if count == 1:
        return [(0, size)]
    tile = _round_up(-(-(size + (count - 1) * overlap) // count), rules.tile_multiple)
    if 4 * overlap > tile or tile >= size:
        raise RecipeError(
            f"tiles that share {overlap} pixels do not fit into {size} pixels, {count} of them and each a multiple of "
            f"{rules.tile_multiple}; ask for 0 to {size // count // 4} pixels or another grid"
        )
    step = rules.tile_step
    starts = [index * (size - tile) // (count - 1) // step * step for index in range(count - 1)]
    return [(start, start + tile) for start in [*starts, size - tile]]


def _kept(choice: PlanChoice, tiles: int) -> int:
    if choice.keep is None:
        return -(-tiles // 2)
    if choice.keep > tiles:
        raise RecipeError(f"plan '{choice.name}' runs 1 to {tiles} of its {tiles} detail tiles, not {choice.keep}")
    return choice.keep


def _detail_of(window: CropBox, rules: SizeRules) -> _Boxes:
    """Overlapping detail crops of one window, in coordinates of the image."""
    crop = rules.detail_crop
    boxes = sliding_windows((window.height, window.width), crop, rules.detail_stride or _half(crop))
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
