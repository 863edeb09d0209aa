"""Many small pictures in one, each with a line of text below it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from hrda_core.data.image_files import UInt8Array, encoded
from hrda_core.resizing import resize_image

__all__ = ["contact_sheet", "jpeg_bytes"]

_GAP = 6
_TEXT_HEIGHT = 18
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_JPEG_QUALITY = 82


def contact_sheet(
    pictures: Sequence[UInt8Array], texts: Sequence[str], *, columns: int = 6, width: int = 1100
) -> UInt8Array:
    """Lay pictures out in rows.

    Args:
        pictures: uint8 (h, w, 3) RGB of any size, at least one.
        texts: one for each picture; plain ASCII is drawn as it is.
        columns: pictures in a row.
        width: width of the sheet, pixels.

    Returns:
        uint8 (H, width, 3) RGB, white between the pictures. All cells have the shape of the tallest picture.
    """
    cell_width = (width - (columns - 1) * _GAP) // columns
    cell_height = max(max(1, round(cell_width * picture.shape[0] / picture.shape[1])) for picture in pictures)
    rows = -(-len(pictures) // columns)
    step = cell_height + _TEXT_HEIGHT + _GAP
    sheet = np.full((rows * step, width, 3), 255, np.uint8)
    for place, (picture, text) in enumerate(zip(pictures, texts, strict=True)):
        top, left = place // columns * step, place % columns * (cell_width + _GAP)
        height = max(1, round(cell_width * picture.shape[0] / picture.shape[1]))
        sheet[top : top + height, left : left + cell_width] = resize_image(picture, height, cell_width, "area")
        scale = min(0.42, 0.42 * cell_width / max(1, cv2.getTextSize(text, _FONT, 0.42, 1)[0][0]))
        cv2.putText(sheet, text, (left + 1, top + height + 13), _FONT, scale, (40, 40, 40), 1, cv2.LINE_AA)
    return sheet


def jpeg_bytes(picture: UInt8Array) -> bytes:
    """Encode a picture, uint8 (H, W, 3) RGB, as JPEG."""
    return encoded(picture, ".jpg", _JPEG_QUALITY)
