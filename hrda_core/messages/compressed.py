"""Decodes `sensor_msgs/CompressedImage` with JPEG or PNG content into RGB arrays, and says what is damaged.

The first bytes tell the kind, because drivers disagree on the `format` field. OpenCV pads a cut-off JPEG with grey and
reports success, so the end marker is looked for first. The EXIF orientation is not applied: the mask must have the size
of the camera's picture, and camera_info describes the sensor.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import ImageError
from hrda_core.messages.raw import opencv_reason

__all__ = ["decode_compressed"]

UInt8Array = npt.NDArray[np.uint8]

_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"

_START_OF_SCAN = 0xDA
# Markers without a length field: TEM, RST0..7, SOI.
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})


def decode_compressed(message: Any) -> UInt8Array:
    """Decode the pixels of a compressed image message.

    Args:
        message: `sensor_msgs/CompressedImage`; its `data` is any bytes-like object.

    Returns:
        uint8 (H, W, 3) RGB, owned by the caller.

    Raises:
        ImageError: `cause` is `empty` (no bytes), `codec` (neither JPEG nor PNG), `truncated` (the end is missing) or
            `decode` (OpenCV refuses the content).
    """
    data = bytes(message.data)
    if not data:
        raise ImageError("a compressed image message holds no bytes", "empty")
    if data.startswith(_JPEG_START):
        complete = _jpeg_is_complete(data)
    elif data.startswith(_PNG_START):
        complete = _PNG_END in data
    else:
        raise ImageError(
            f"a compressed image of format '{message.format}' starts with {data[:8].hex(' ')}; JPEG and PNG are read",
            "codec",
        )
    if not complete:
        raise ImageError(f"a compressed image of {len(data)} bytes is cut off: its end marker is missing", "truncated")
    return _decode(data)


def _jpeg_is_complete(data: bytes) -> bool:
    """True where an end-of-image marker follows the picture's first scan.

    Headers are skipped segment by segment: an embedded thumbnail has an end marker of its own.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == _START_OF_SCAN:
            return data.find(_JPEG_END, position) >= 0
        if marker == 0xFF:
            position += 1  # fill byte
        elif marker in _BARE_MARKERS:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _decode(data: bytes) -> UInt8Array:
    rgb_flag = getattr(cv2, "IMREAD_COLOR_RGB", None)  # OpenCV 4.11 and later
    flags = cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_COLOR if rgb_flag is None else rgb_flag)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"OpenCV cannot decode a compressed image: {opencv_reason(error)}", "decode") from error
    if pixels is None:
        raise ImageError(f"OpenCV cannot decode a compressed image of {len(data)} bytes: it is damaged", "decode")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if rgb_flag is None else pixels, np.uint8)
