"""Computes the weights of several overlapping crops at each cell, which sum to 1 everywhere. Needs numpy alone.

Crops that overlap by half have equal weights, as in the reference (`overlap`, `nested`). Tiles that share a narrow
strip fade into each other along it, so that no seam shows where their predictions differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hrda_core.window_plan import CropBox, Size

__all__ = ["crop_weights"]

FloatArray = npt.NDArray[np.float32]


def crop_weights(boxes: Sequence[CropBox], size: Size, *, feathered: bool) -> list[FloatArray]:
    """Compute the weight of each crop at each of its cells.

    Args:
        boxes: crops on the grid of the logits; together they cover it.
        size: height and width of the grid.
        feathered: fade linearly over the strip that two crops share; else crops have equal weights.

    Returns:
        float32 (h, w) for each box, above 0. Over all boxes they sum to 1 at each cell.
    """
    parts = [_fade(box, boxes) if feathered else np.ones((box.height, box.width)) for box in boxes]
    total = np.zeros(size)
    for box, part in zip(boxes, parts, strict=True):
        total[box.index] += part
    return [(part / total[box.index]).astype(np.float32) for box, part in zip(boxes, parts, strict=True)]


def _fade(box: CropBox, boxes: Sequence[CropBox]) -> npt.NDArray[np.float64]:
    rows = _fade_along((box.y1, box.y2), {(other.y1, other.y2) for other in boxes})
    columns = _fade_along((box.x1, box.x2), {(other.x1, other.x2) for other in boxes})
    return rows[:, None] * columns


def _fade_along(span: tuple[int, int], spans: set[tuple[int, int]]) -> npt.NDArray[np.float64]:
    """1 inside a span, falling towards 0 across the strips that it shares with the spans beside it."""
    start, end = span
    before = max((other_end - start for other_start, other_end in spans if other_start < start < other_end), default=0)
    after = max((end - other_start for other_start, other_end in spans if start < other_start < end), default=0)
    centres = np.arange(end - start) + 0.5
    rise = np.minimum(1, centres / before) if before else np.ones(end - start)
    fall = np.minimum(1, centres[::-1] / after) if after else np.ones(end - start)
    return np.asarray(rise * fall)
