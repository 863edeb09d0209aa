"""Decodes `sensor_msgs/CompressedImage` with JPEG or PNG content into RGB arrays, and says what is damaged.

The first bytes tell the kind, because drivers disagree on the `format` field. OpenCV pads a cut-off JPEG with grey and
reports success, so the end marker is looked for first. The EXIF orientation is not applied: the mask must have the size
of the camera's picture, and camera_info describes the sensor.

image_transport writes the encoding of the picture before a `;` into `format`. A picture of one channel whose encoding
is a Bayer pattern is a mosaic, and becomes colour.
"""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import ImageError, shown
from hrda_core.messages.picture_size import (
    JPEG_START,
    MAX_MEGAPIXELS,
    PNG_START,
    START_OF_SCAN,
    check_pixels,
    jpeg_segments,
    picture_size,
    png_is_whole,
)
from hrda_core.messages.raw import mosaic_to_rgb, opencv_reason
from hrda_core.messages.value_range import FULL_RANGE, PixelValues
from hrda_core.messages.video import video_codec

__all__ = ["decode_compressed", "deep_to_rgb"]

UInt8Array = npt.NDArray[np.uint8]

_JPEG_END = b"\xff\xd9"

_USUAL_SCANS, _MOST_SCANS = 10, 100
"""Scans of a progressive JPEG, and of any. Each one is a pass over all pixels, however few bytes it has."""

_MOST_SCANNED = 1_280_000_000
"""Pixels of all scans together where there are more than usual: 20 passes over 64 megapixels take some seconds."""


def decode_compressed(
    message: Any, values: PixelValues = FULL_RANGE, *, max_megapixels: int = MAX_MEGAPIXELS
) -> UInt8Array:
    """Decode the pixels of a compressed image message.

    Args:
        message: `sensor_msgs/CompressedImage`; its `data` is any bytes-like object.
        values: turns pixels of 16 bits into bytes; by default the high byte is the picture.
        max_megapixels: a picture whose header states more million pixels is not decoded.

    Returns:
        uint8 (H, W, 3) RGB, owned by the caller.

    Raises:
        ImageError: `cause` is `empty` (no bytes), `codec` (neither JPEG nor PNG), `truncated` (the end is missing),
            `size` (it is too large to be decoded) or `decode` (OpenCV refuses the content).
    """
    data = bytes(message.data)
    if not data:
        raise ImageError("a compressed image message holds no bytes", "empty")
    if data.startswith(JPEG_START):
        complete = _jpeg_is_complete(data)
    elif data.startswith(PNG_START):
        complete = png_is_whole(io.BytesIO(data))
    elif video_codec(str(message.format)):
        raise ImageError(
            f"a compressed image of format '{shown(message.format)}' is a packet of a video, which is not "
            "decoded live; republish it as raw images, for example with 'ros2 run image_transport republish', "
            "and segment those",
            "codec",
        )
    else:
        raise ImageError(
            f"a compressed image of format '{shown(message.format)}' starts with {data[:8].hex(' ')}; "
            "JPEG and PNG are read",
            "codec",
        )
    if not complete:
        raise ImageError(f"a compressed image of {len(data)} bytes is cut off: its end is missing", "truncated")
    size = picture_size(data)
    if size is None:
        raise ImageError(f"a compressed image of {len(data)} bytes states no size: it is damaged", "decode")
    check_pixels(*size, max_megapixels)
    if data.startswith(JPEG_START):
        _check_scans(data.count(bytes((0xFF, START_OF_SCAN))), size)
    pattern = str(message.format).partition(";")[0].strip()
    if pattern.startswith("bayer_"):
        return _decode_mosaic(data, pattern, values)
    return _decode_deep(data, values) if _is_deep_png(data) else _decode(data)


def _check_scans(scans: int, size: tuple[int, int]) -> None:
    height, width = size
    if scans > _MOST_SCANS or (scans > _USUAL_SCANS and scans * height * width > _MOST_SCANNED):
        raise ImageError(f"a JPEG of {height} x {width} pixels in {scans} scans is not decoded", "decode")


def _is_deep_png(data: bytes) -> bool:
    """True for 16 bits a value: the byte behind width and height of the PNG's first chunk says so."""
    return data.startswith(PNG_START) and data[24:25] == b"\x10"


def _decode_deep(data: bytes, values: PixelValues) -> UInt8Array:
    return deep_to_rgb(_read(data, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR), values)


def deep_to_rgb(bgr: npt.NDArray[Any], values: PixelValues) -> UInt8Array:
    """Turn a picture (H, W, 3), BGR of 8 or 16 bits as OpenCV reads it, into uint8 RGB."""
    return np.asarray(
        cv2.cvtColor(values.to_bytes(bgr) if bgr.dtype == np.uint16 else bgr, cv2.COLOR_BGR2RGB), np.uint8
    )


def _jpeg_is_complete(data: bytes) -> bool:
    """True where an end-of-image marker follows the picture's first scan.

    Headers are skipped segment by segment: an embedded thumbnail has an end marker of its own.
    """
    return any(marker == START_OF_SCAN and data.find(_JPEG_END, place) >= 0 for marker, place in jpeg_segments(data))


def _decode_mosaic(data: bytes, pattern: str, values: PixelValues) -> UInt8Array:
    """A picture whose encoding is a Bayer pattern, unless the driver turned it into colour before it was packed."""
    pixels = _read(data, cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 3:
        return _decode_deep(data, values) if pixels.dtype == np.uint16 else _decode(data)
    return mosaic_to_rgb(values.to_bytes(pixels) if pixels.dtype == np.uint16 else pixels, pattern)


def _decode(data: bytes) -> UInt8Array:
    rgb_flag = getattr(cv2, "IMREAD_COLOR_RGB", None)  # OpenCV 4.11 and later
    flags = cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_COLOR if rgb_flag is None else rgb_flag)
    pixels = _read(data, flags)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if rgb_flag is None else pixels, np.uint8)


def _read(data: bytes, flags: int) -> npt.NDArray[Any]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"OpenCV cannot decode a compressed image: {opencv_reason(error)}", "decode") from error
    if pixels is None:
        raise ImageError(f"OpenCV cannot decode a compressed image of {len(data)} bytes: it is damaged", "decode")
    return np.asarray(pixels)
