"""One picture of what a training step saw: a row for each image of the batch, a column for each kind of map.

A look tells what no number does: whether pseudo-labels follow the street, whether trust is high where they are wrong,
whether pasted classes land in sensible places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import DataError
from hrda_core.labels import LabelSpace
from hrda_core.resizing import resize_image, resize_map

__all__ = ["MAX_WIDTH", "draw_panel"]

MAX_WIDTH = 1800
"""Widest panel, pixels."""

UInt8Array = npt.NDArray[np.uint8]
Array = npt.NDArray[np.generic]

_COLUMNS = (
    ("source_image", "source image", "image"),
    ("source_labels", "source labels", "labels"),
    ("target_image", "target image", "image"),
    ("pseudo_labels", "pseudo-labels", "labels"),
    ("pseudo_weight", "pseudo-label weight", "share"),
    ("mixed_image", "mixed image", "image"),
    ("mixed_labels", "mixed labels", "labels"),
    ("predicted_labels", "prediction", "labels"),
    ("attention", "detail attention", "share"),
)
"""Name in `StepResult.pictures`, caption, how it is drawn."""

_GAP = 4
_CAPTION_HEIGHT = 24


def draw_panel(
    pictures: Mapping[str, Array], space: LabelSpace, mean: Sequence[float], std: Sequence[float]
) -> UInt8Array:
    """Draw what a step returned.

    Args:
        pictures: arrays by the names of `hrda_core.uda.step.StepResult.pictures`: images float (B, 3, H, W),
            normalised; labels (B, H, W), drawn in the colours of `space`; weights and attention float (B, h, w), 0..1,
            drawn from black to white. Absent arrays have no column, unknown names are left out.
        mean, std: normalisation of the images, by channel.

    Returns:
        uint8 (H, W, 3) RGB, at most `MAX_WIDTH` wide; never enlarged.

    Raises:
        DataError: none of the pictures is known.
    """
    columns = [(name, caption, kind) for name, caption, kind in _COLUMNS if name in pictures]
    if not columns:
        known = ", ".join(name for name, _, _ in _COLUMNS)
        raise DataError(f"nothing to draw in the pictures {sorted(pictures)}; expected some of {known}")
    height, width = _cell_size(pictures, [name for name, _, _ in columns])
    drawn = []
    for name, caption, kind in columns:
        cells: list[UInt8Array] = [_caption(caption, width)]
        for values in pictures[name]:
            cells.append(_fit(_draw(values, kind, space, mean, std), height, width, smooth=kind == "image"))
            cells.append(np.full((_GAP, width, 3), 255, np.uint8))
        drawn.append(np.concatenate(cells))
    return _side_by_side(drawn)


def _cell_size(pictures: Mapping[str, Array], names: Sequence[str]) -> tuple[int, int]:
    """Height and width of a cell: of the largest picture, or less so that the panel is not too wide."""
    height, width = max(tuple(pictures[name].shape[-2:]) for name in names)
    widest = (MAX_WIDTH - _GAP * (len(names) - 1)) // len(names)
    factor = min(1.0, widest / width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _draw(values: Array, kind: str, space: LabelSpace, mean: Sequence[float], std: Sequence[float]) -> UInt8Array:
    """One map as uint8 (H, W, 3)."""
    if kind == "labels":
        # Out of range means no class, drawn black as an ignored pixel is.
        return space.color_table()[np.clip(values.astype(np.int64), 0, 255)]
    numbers = np.nan_to_num(values.astype(np.float32))
    if kind == "image":
        pixels = numbers.transpose(1, 2, 0) * np.asarray(std, np.float32) + np.asarray(mean, np.float32)
    else:
        pixels = np.repeat(255 * numbers[..., None], 3, axis=2)
    return np.asarray(np.clip(np.rint(pixels), 0, 255), np.uint8)


def _fit(picture: UInt8Array, height: int, width: int, *, smooth: bool) -> UInt8Array:
    return resize_image(picture, height, width, "area") if smooth else resize_map(picture, height, width)


def _caption(text: str, width: int) -> UInt8Array:
    """A white strip, uint8 (_CAPTION_HEIGHT, width, 3), with text that is shrunk to fit."""
    strip = np.full((_CAPTION_HEIGHT, width, 3), 255, np.uint8)
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    (wide, _), _ = cv2.getTextSize(text, font, scale, 1)
    scale *= min(1.0, (width - 4) / wide)
    cv2.putText(strip, text, (2, 16), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def _side_by_side(columns: Sequence[UInt8Array]) -> UInt8Array:
    """Columns of one width with white between them; shorter ones are filled up with white."""
    height = max(len(column) for column in columns)
    parts: list[UInt8Array] = []
    for column in columns:
        wide = _GAP if parts else 0
        part = np.full((height, wide + column.shape[1], 3), 255, np.uint8)
        part[: len(column), wide:] = column
        parts.append(part)
    return np.concatenate(parts, axis=1)
