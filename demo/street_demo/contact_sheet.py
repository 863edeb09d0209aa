"""The contact sheet: a page of frames, each as camera picture, mask and overlay, with the class legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hrda_core.inference.overlay import colorize
from hrda_core.labels import LabelSpace
from street_demo.drawing import PAPER, SOFT_INK, draw_legend, draw_tag, draw_text, fit, legend_height, seen_classes

__all__ = ["SheetFrame", "contact_sheet"]

UInt8Array = npt.NDArray[np.uint8]

COLUMNS = 2
PANEL_WIDTH = 320
PANEL_NAMES = ("camera", "mask", "overlay")
_MARGIN = 32
_GAP = 4
_COLUMN_GAP = 28
_ROW_GAP = 12
_HEADER = 132
_LEGEND_GAP = 22


@dataclass(frozen=True)
class SheetFrame:
    """One frame of the sheet.

    Attributes:
        caption: short text on the camera picture.
        rgb, overlay: uint8 (H, W, 3), RGB.
        labels: uint8 (H, W), class ids.
    """

    caption: str
    rgb: UInt8Array
    labels: UInt8Array
    overlay: UInt8Array


def contact_sheet(frames: Sequence[SheetFrame], space: LabelSpace, title: str, subtitle: str) -> UInt8Array:
    """Draw the sheet: uint8 (height, width, 3), RGB. `frames` are laid out column by column."""
    classes = seen_classes([frame.labels for frame in frames], space)
    strips = [_strip(frame, space) for frame in frames]
    rows = -(-len(strips) // COLUMNS)
    strip_height, strip_width = max(strip.shape[0] for strip in strips), strips[0].shape[1]
    width = 2 * _MARGIN + COLUMNS * strip_width + (COLUMNS - 1) * _COLUMN_GAP
    body = rows * (strip_height + _ROW_GAP)
    legend = legend_height(len(classes), width - 2 * _MARGIN)
    canvas = np.full((_HEADER + body + _LEGEND_GAP + legend + _MARGIN, width, 3), PAPER, np.uint8)
    draw_text(canvas, title, (_MARGIN, 50), 1.0)
    draw_text(canvas, subtitle, (_MARGIN, 82), 0.55, SOFT_INK)
    for place, strip in enumerate(strips):
        column, row = divmod(place, rows)
        x = _MARGIN + column * (strip_width + _COLUMN_GAP)
        y = _HEADER + row * (strip_height + _ROW_GAP)
        canvas[y : y + strip.shape[0], x : x + strip_width] = strip
        if row == 0:
            for panel, name in enumerate(PANEL_NAMES):
                draw_text(canvas, name, (x + panel * (PANEL_WIDTH + _GAP), _HEADER - 10), 0.55, SOFT_INK)
    draw_legend(canvas, space, classes, (_MARGIN, _HEADER + body + _LEGEND_GAP), width - 2 * _MARGIN)
    return canvas


def _strip(frame: SheetFrame, space: LabelSpace) -> UInt8Array:
    """Camera picture, mask and overlay side by side."""
    mask = colorize(fit(frame.labels, PANEL_WIDTH), space.color_table())
    panels = [fit(frame.rgb, PANEL_WIDTH), mask, fit(frame.overlay, PANEL_WIDTH)]
    draw_tag(panels[0], frame.caption, (0, 0))
    gap = np.full((panels[0].shape[0], _GAP, 3), PAPER, np.uint8)
    return np.hstack([panels[0], gap, panels[1], gap, panels[2]])
