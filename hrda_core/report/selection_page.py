"""Draws which frames were selected and why, as one picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from hrda_core.data.frame_selection.selected_frames import SelectedFrame, Selection
from hrda_core.data.frames import evenly_spaced
from hrda_core.data.image_files import UInt8Array, decoded, read_image
from hrda_core.messages.picture_size import MAX_MEGAPIXELS
from hrda_core.report.bag_text import clock
from hrda_core.report.contact_sheet import contact_sheet, jpeg_bytes
from hrda_core.report.time_figures import draw_reasons
from hrda_core.resizing import resize_image

__all__ = ["draw_selection"]

_WIDTH = 1100
_SHOWN_KEPT, _SHOWN_HELD_OUT = 18, 6
_HEADING_HEIGHT = 30


def draw_selection(selection: Selection, folder: Path, max_megapixels: int = MAX_MEGAPIXELS) -> bytes:
    """Draw every analysed frame over time by its reason, and some kept, held-out and rejected frames, as a JPEG.

    Args:
        folder: where `extract_frames` wrote the frames; pictures of files that are not there are left out.
        max_megapixels: how large they may be, in millions of pixels.

    Raises:
        DataError: a picture there is damaged.
        MissingPackageError: matplotlib is not installed.
    """
    parts = [_timeline(selection)]
    by_time = sorted(selection.rows, key=lambda row: row.at_s)
    rejected = [row for row in by_time if row.file and row.reason not in ("kept", "held_out")]
    for heading, rows, most in (
        ("kept: adapted on", [row for row in by_time if row.reason == "kept"], _SHOWN_KEPT),
        ("held out: judged on", [row for row in by_time if row.reason == "held_out"], _SHOWN_HELD_OUT),
        ("rejected", rejected, len(rejected)),
    ):
        found = [row for row in evenly_spaced(rows, most) if (folder / row.file).is_file()]
        if found:
            parts += [_heading(heading), _sheet(found, folder, max_megapixels)]
    return jpeg_bytes(np.concatenate(parts))


def _timeline(selection: Selection) -> UInt8Array:
    times: dict[str, dict[str, list[float]]] = {camera: defaultdict(list) for camera in selection.cameras}
    for row in selection.rows:
        times[row.frame.topic][row.reason].append(row.at_s)
    picture = decoded(draw_reasons(times))
    return resize_image(picture, round(picture.shape[0] * _WIDTH / picture.shape[1]), _WIDTH, "area")


def _sheet(rows: Sequence[SelectedFrame], folder: Path, max_megapixels: int) -> UInt8Array:
    pictures = [read_image(folder / row.file, max_megapixels=max_megapixels) for row in rows]
    texts = [f"{clock(row.at_s)} {_why(row)}".strip() for row in rows]
    return contact_sheet(pictures, texts, width=_WIDTH)


def _why(row: SelectedFrame) -> str:
    return "" if row.reason in ("kept", "held_out") else row.reason


def _heading(text: str) -> UInt8Array:
    strip = np.full((_HEADING_HEIGHT, _WIDTH, 3), 255, np.uint8)
    cv2.putText(strip, text, (1, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
