"""Draws text and the class legend for the contact sheet and the video. All pictures are RGB."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.labels import LabelSpace

__all__ = ["INK", "SOFT_INK", "draw_legend", "draw_tag", "draw_text", "legend_height", "seen_classes"]

UInt8Array = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

INK: Colour = (34, 36, 40)
SOFT_INK: Colour = (110, 114, 120)

_FONT = cv2.FONT_HERSHEY_DUPLEX
_SWATCH = 20
_LEGEND_ROW = 34
_LEGEND_COLUMN = 168
_SMALL_TEXT = 0.5
MIN_SHARE = 0.0005
"""A class that covers less of the pictures than this is left out of the legend."""


def draw_text(canvas: UInt8Array, text: str, at: tuple[int, int], scale: float, colour: Colour = INK) -> None:
    """Write `text` with its base line starting at (x, y)."""
    # OpenCV's stroke fonts know ASCII only.
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(canvas, plain, at, _FONT, scale, colour, 1, cv2.LINE_AA)


def draw_tag(canvas: UInt8Array, text: str, at: tuple[int, int]) -> None:
    """Write light text on a dark strip with its top left corner at (x, y)."""
    (width, height), baseline = cv2.getTextSize(text, _FONT, _SMALL_TEXT, 1)
    x, y = at
    strip = canvas[y : y + height + baseline + 6, x : x + width + 12]
    strip[:] = strip // 4
    draw_text(canvas, text, (x + 6, y + height + 4), _SMALL_TEXT, (255, 255, 255))


def seen_classes(masks: Iterable[UInt8Array], space: LabelSpace) -> list[int]:
    """Return the ids of the classes that cover a visible part of these masks, ascending."""
    counts = np.zeros(256, np.int64)
    for labels in masks:
        counts += np.bincount(labels.reshape(-1), minlength=256)
    total = max(1, int(counts.sum()))
    return [index for index in range(len(space)) if counts[index] / total >= MIN_SHARE]


def legend_height(classes: int, width: int) -> int:
    """Return the rows of pixels that `draw_legend` needs."""
    columns = max(1, width // _LEGEND_COLUMN)
    return -(-classes // columns) * _LEGEND_ROW


def draw_legend(canvas: UInt8Array, space: LabelSpace, classes: list[int], at: tuple[int, int], width: int) -> None:
    """Draw colour and name of each class in rows, with the top left corner at (x, y)."""
    columns = max(1, width // _LEGEND_COLUMN)
    for place, index in enumerate(classes):
        x = at[0] + place % columns * _LEGEND_COLUMN
        y = at[1] + place // columns * _LEGEND_ROW + (_LEGEND_ROW - _SWATCH) // 2
        cv2.rectangle(canvas, (x, y), (x + _SWATCH, y + _SWATCH), space.palette[index], cv2.FILLED)
        draw_text(canvas, space.classes[index], (x + _SWATCH + 8, y + _SWATCH - 5), _SMALL_TEXT)
