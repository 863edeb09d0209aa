"""Window plans: how an image is cut for HRDA. One geometry for torch, ONNX and training; numpy is not even needed.

A plan says how far the image is padded, where the detail crops lie, and how the context image is scaled
(TPAMI paper, section 3.4 "Multi-Resolution"; the plans and their names are described in docs/window_plans.md).

    context   the low-resolution branch alone, no detail crops
    tiles     the context plus a grid of disjoint detail crops of equal size that cover the padded image

All boxes are in pixels of the padded image. Padding is at the bottom and right only, so that a pixel keeps its
coordinates and results are cropped by `[:height, :width]`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hrda_core.errors import BackendError, ImageError

__all__ = ["PLAN_NAMES", "CropBox", "WindowPlan", "plan_windows"]

PLAN_NAMES = ("context", "tiles")


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

    def scaled_down(self, factor: int) -> CropBox:
        """The box on a grid `factor` times coarser, each coordinate truncated."""
        return CropBox(self.y1 // factor, self.y2 // factor, self.x1 // factor, self.x2 // factor)


@dataclass(frozen=True)
class WindowPlan:
    """Where to look in one image of a given size.

    Attributes:
        name: one of `PLAN_NAMES`.
        height, width: size of the image as it came, pixels.
        padded_height, padded_width: size after padding at the bottom and right, pixels.
        context_scale: factor from padded image to context image, 0 to 1.
        detail: detail crops in row-major order; empty for `context`.
    """

    name: str
    height: int
    width: int
    padded_height: int
    padded_width: int
    context_scale: float
    detail: tuple[CropBox, ...]


def plan_windows(
    name: str,
    height: int,
    width: int,
    *,
    grid: tuple[int, int] = (2, 2),
    multiple_of: int = 64,
    context_scale: float = 0.5,
) -> WindowPlan:
    """Cut an image of `height` x `width` pixels.

    Args:
        name: `"context"` or `"tiles"`.
        height, width: image size, at least 1 x 1.
        grid: rows and columns of detail tiles; each side of the padded image divides evenly by it.
        multiple_of: every side is padded up to a multiple of this. 64 keeps half-size context and 2 x 2 tiles on
            the stride-32 grid that encoders train on.
        context_scale: factor of the context image.

    Raises:
        BackendError: unknown plan name.
        ImageError: a side below 1.
    """
    if name not in PLAN_NAMES:
        raise BackendError(f"window plan '{name}' is not known; choose one of {', '.join(PLAN_NAMES)}")
    if height < 1 or width < 1:
        raise ImageError(f"an image of {height} x {width} pixels is empty; both sides must be at least 1", "size")
    rows, columns = grid if name == "tiles" else (1, 1)
    padded_height = _round_up(height, math.lcm(multiple_of, rows))
    padded_width = _round_up(width, math.lcm(multiple_of, columns))
    detail: tuple[CropBox, ...] = ()
    if name == "tiles":
        tile_height, tile_width = padded_height // rows, padded_width // columns
        detail = tuple(
            CropBox(row * tile_height, (row + 1) * tile_height, column * tile_width, (column + 1) * tile_width)
            for row in range(rows)
            for column in range(columns)
        )
    return WindowPlan(name, height, width, padded_height, padded_width, context_scale, detail)


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
