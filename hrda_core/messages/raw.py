"""Decodes `sensor_msgs/Image` into RGB arrays; any object with the same fields will do.

Rows are read by the message's own `step`, so padded rows of any length are read correctly, and integers are read in the
message's byte order. For rgb8 the result is a view of the message's memory; every other encoding takes one conversion
by OpenCV. These rules settle what the message definition leaves open:

    mono16, 16UC1    become 8 bits by the range of their values, see `hrda_core.messages.value_range`
    8UC3, 8UC4       the channels are BGR and BGRA, the order of OpenCV
    alpha            is dropped
    yuv*, nv*        are ITU-R BT.601 in limited range, as OpenCV converts them
    trailing bytes   are ignored (drivers round buffers up)
    step 0           (simulators leave it out) is the length of a row without padding, where exactly that many bytes
                     are there
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import ImageError, shown
from hrda_core.messages.value_range import FULL_RANGE, PixelValues

__all__ = ["ENCODINGS", "decode_image", "decode_plane", "mosaic_to_rgb", "opencv_reason"]

UInt8Array = npt.NDArray[np.uint8]
AnyArray = npt.NDArray[Any]
Message = Any
"""A ROS message, or anything with the same fields; `rclpy` has no static types for messages."""


@dataclass(frozen=True)
class _PackedFormat:
    """Pixels of one plane.

    Attributes:
        channels: values a pixel.
        convert: array (H, W, channels) of 8 bits to uint8 (H, W, 3) RGB.
        bits: 8 or 16 a value.
        group: pixels that share their bytes; a row holds whole groups.
    """

    channels: int
    convert: Callable[[AnyArray], AnyArray]
    bits: int = 8
    group: int = 1


def _by_opencv(code: int) -> Callable[[AnyArray], AnyArray]:
    def convert(pixels: AnyArray) -> AnyArray:
        # OpenCV 4.5 (Ubuntu 22.04) refuses a single pixel of three channels. Two pixels are cut to the width later.
        return cv2.cvtColor(pixels if pixels.shape[:2] != (1, 1) else np.repeat(pixels, 2, axis=1), code)

    return convert


def _grey(pixels: AnyArray) -> AnyArray:
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)


_BGR, _BGRA = _PackedFormat(3, _by_opencv(cv2.COLOR_BGR2RGB)), _PackedFormat(4, _by_opencv(cv2.COLOR_BGRA2RGB))
_MONO8, _MONO16 = _PackedFormat(1, _grey), _PackedFormat(1, _grey, bits=16)
_UYVY = _PackedFormat(2, _by_opencv(cv2.COLOR_YUV2RGB_UYVY), group=2)
_YUYV = _PackedFormat(2, _by_opencv(cv2.COLOR_YUV2RGB_YUY2), group=2)

_PACKED: dict[str, _PackedFormat] = {
    "rgb8": _PackedFormat(3, lambda pixels: pixels),
    "bgr8": _BGR,
    "rgba8": _PackedFormat(4, _by_opencv(cv2.COLOR_RGBA2RGB)),
    "bgra8": _BGRA,
    "mono8": _MONO8,
    "mono16": _MONO16,
    "8UC1": _MONO8,
    "8UC3": _BGR,
    "8UC4": _BGRA,
    "16UC1": _MONO16,
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    # ROS names the first two pixels of the first row, OpenCV those of the second row from the second column on.
    "bayer_rggb8": _PackedFormat(1, _by_opencv(cv2.COLOR_BayerBG2RGB)),
    "bayer_bggr8": _PackedFormat(1, _by_opencv(cv2.COLOR_BayerRG2RGB)),
    "bayer_gbrg8": _PackedFormat(1, _by_opencv(cv2.COLOR_BayerGR2RGB)),
    "bayer_grbg8": _PackedFormat(1, _by_opencv(cv2.COLOR_BayerGB2RGB)),
}
_TWO_PLANES = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21}

ENCODINGS = (*_PACKED, *_TWO_PLANES)
"""Encodings that are read without further packages."""


def decode_image(message: Message, values: PixelValues = FULL_RANGE) -> UInt8Array:
    """Decode the pixels of an image message.

    Args:
        message: `sensor_msgs/Image`; its `data` is any object with the buffer protocol.
        values: turns pixels of 16 bits into bytes; by default the high byte is the picture.

    Returns:
        uint8 (height, width, 3) RGB. For rgb8 it is a read-only view of `message.data`, valid as long as the message.

    Raises:
        ImageError: the message contradicts itself or cannot be converted. `cause` is `empty` (a side is 0), `step`
            (rows are shorter than their pixels), `short` (there are fewer bytes than the rows need), `data` (it is no
            byte buffer), `encoding` (it is unknown) or `convert` (OpenCV refuses).
    """
    height, width, encoding = int(message.height), int(message.width), str(message.encoding)
    if height < 1 or width < 1:
        raise ImageError(
            f"an image of {height} x {width} pixels has nothing to segment; both sides must be >= 1", "empty"
        )
    try:
        if encoding in _PACKED:
            return _decode_packed(message, _PACKED[encoding], height, width, values)
        if encoding in _TWO_PLANES:
            return _decode_two_planes(message, _TWO_PLANES[encoding], height, width)
    except cv2.error as error:
        raise ImageError(
            f"OpenCV cannot convert a {shown(encoding)} image of {height} x {width} pixels: {opencv_reason(error)}",
            "convert",
        ) from error
    return _decode_by_cv_bridge(message)


def mosaic_to_rgb(mosaic: UInt8Array, pattern: str) -> UInt8Array:
    """Turn a Bayer mosaic into colour.

    Args:
        mosaic: uint8 (H, W).
        pattern: an encoding of `sensor_msgs`, such as `bayer_rggb8` or, for values cut to 8 bits, `bayer_rggb16`.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        ImageError: `cause` is `encoding` (the pattern is unknown) or `convert` (OpenCV refuses).
    """
    layout = _PACKED.get(pattern.replace("16", "8"))
    if layout is None:
        raise ImageError(f"'{shown(pattern)}' is no known Bayer pattern; known are {', '.join(ENCODINGS)}", "encoding")
    try:
        return np.asarray(layout.convert(mosaic[..., None]), np.uint8)
    except cv2.error as error:
        raise ImageError(
            f"OpenCV cannot convert a {shown(pattern)} mosaic: {opencv_reason(error)}", "convert"
        ) from error


def opencv_reason(error: cv2.error) -> str:
    """Return OpenCV's complaint on one line."""
    text = getattr(error, "err", None) or str(error)
    return " ".join(text.split())


def _step(message: Message, row_bytes: int, rows: int) -> int:
    """Bytes from one row of a message to the next; simulators leave them out where rows are not padded."""
    step = int(message.step)
    return row_bytes if not step and len(message.data) == rows * row_bytes else step


def _view(message: Message, shape: tuple[int, int, int], step: int, bits: int = 8, *, offset: int = 0) -> AnyArray:
    """No-copy view (rows, columns, channels) on the rows of a message, from byte `offset` on.

    Raises:
        ImageError: cause `step`, `short` or `data`.
    """
    rows, columns, channels = shape
    item = bits // 8
    row_bytes = columns * channels * item
    if step < row_bytes:
        raise ImageError(
            f"a {shown(message.encoding)} image of {message.width} pixels a row needs {row_bytes} bytes a row, "
            f"but the message's step is {step}" + (f" and it holds {len(message.data)} bytes" if not step else ""),
            "step",
        )
    needed = offset + step * (rows - 1) + row_bytes
    if len(message.data) < needed:
        raise ImageError(
            f"a {shown(message.encoding)} image of {message.height} x {message.width} pixels with step {step} needs "
            f"{needed} bytes, but the message holds {len(message.data)}",
            "short",
        )
    dtype = np.dtype(f"{'>' if message.is_bigendian else '<'}u{item}")
    try:
        strides = (step, channels * item, item)
        pixels: AnyArray = np.ndarray((rows, columns, channels), dtype, message.data, offset, strides)
    except (TypeError, ValueError) as error:
        kind = type(message.data).__name__
        raise ImageError(f"image data must be a buffer of bytes, not a {kind} ({error})", "data") from error
    return pixels


def _decode_packed(message: Message, layout: _PackedFormat, height: int, width: int, values: PixelValues) -> UInt8Array:
    columns = -(-width // layout.group) * layout.group
    step = _step(message, columns * layout.channels * layout.bits // 8, height)
    pixels = _view(message, (height, columns, layout.channels), step, layout.bits)
    rgb: UInt8Array = layout.convert(values.to_bytes(pixels) if layout.bits > 8 else pixels)
    return rgb if rgb.shape[1] == width else np.ascontiguousarray(rgb[:, :width])


def _decode_two_planes(message: Message, code: int, height: int, width: int) -> UInt8Array:
    """Full-size Y rows, then rows of interleaved chroma at half size; both use the message's step."""
    chroma_rows, chroma_columns = (height + 1) // 2, (width + 1) // 2
    step = _step(message, 2 * chroma_columns, height + chroma_rows)
    chroma = _view(message, (chroma_rows, chroma_columns, 2), step, offset=step * height)
    luma = _view(message, (height, width, 1), step)[..., 0]
    if height % 2 or width % 2:
        # OpenCV wants whole 2 x 2 blocks; the repeated border is cut off again below.
        luma = np.pad(luma, ((0, height % 2), (0, width % 2)), mode="edge")
    rgb = np.asarray(cv2.cvtColorTwoPlane(luma, np.ascontiguousarray(chroma), code), np.uint8)
    return rgb if rgb.shape[:2] == (height, width) else np.ascontiguousarray(rgb[:height, :width])


def _decode_by_cv_bridge(message: Message) -> UInt8Array:
    """Rare encodings, where a ROS distribution brings cv_bridge along."""
    known = ", ".join(ENCODINGS)
    try:
        from cv_bridge import CvBridge

        rgb = CvBridge().imgmsg_to_cv2(message, "rgb8")
    except Exception as error:  # cv_bridge is absent, or raises errors of its own and of its C++ half
        raise ImageError(
            f"image encoding '{shown(message.encoding)}' is not known; known are {known}", "encoding"
        ) from error
    if rgb.dtype != np.uint8 or rgb.shape != (message.height, message.width, 3):
        raise ImageError(
            f"cv_bridge made {rgb.dtype} {rgb.shape} of encoding '{shown(message.encoding)}', not RGB; "
            f"known are {known}",
            "encoding",
        )
    result: UInt8Array = rgb
    return result


def decode_plane(message: Message, kinds: Mapping[str, str]) -> AnyArray:
    """View the numbers of an image message of one channel as they are, without making a picture of them.

    Args:
        message: `sensor_msgs/Image`, such as a mask or depth.
        kinds: accepted encodings and their numpy types, as in `{"16UC1": "u2", "32FC1": "f4"}`.

    Returns:
        (height, width) of that type in the message's byte order: a read-only view of `message.data`.

    Raises:
        ImageError: as `decode_image`; cause `encoding` for every encoding that is not in `kinds`.
    """
    height, width, encoding = int(message.height), int(message.width), str(message.encoding)
    if height < 1 or width < 1:
        raise ImageError(f"an image of {height} x {width} pixels is empty; both sides must be >= 1", "empty")
    if encoding not in kinds:
        raise ImageError(
            f"image encoding '{shown(encoding)}' does not fit here; expected {' or '.join(kinds)}", "encoding"
        )
    kind = np.dtype(kinds[encoding])
    step = _step(message, width * kind.itemsize, height)
    pixels = _view(message, (height, width, 1), step, 8 * kind.itemsize)[..., 0]
    return pixels.view(kind.newbyteorder(">" if message.is_bigendian else "<"))
