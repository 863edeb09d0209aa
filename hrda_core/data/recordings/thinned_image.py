"""Decodes only every n-th row of a raw image message: enough to measure it, in a fraction of the time.

The fields of the message are read from its bytes, so that nothing of its size is copied.
"""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import NamedTuple

from hrda_core.data.image_files import UInt8Array
from hrda_core.data.recordings.recorded_image import COMPRESSED, IMAGE, RecordedImage
from hrda_core.errors import ImageError
from hrda_core.messages import ENCODINGS, decode_image

__all__ = ["ThinnedImage", "decode_thinned", "encoding_of"]

# Mosaics and planes at half size have meaning in the rows next to each other.
_OF_SINGLE_ROWS = tuple(name for name in ENCODINGS if not name.startswith(("bayer", "nv")))


class ThinnedImage(NamedTuple):
    """Some rows of an image, uint8 (h, width, 3) RGB, and the width and height of the whole."""

    rgb: UInt8Array
    width: int
    height: int


class _Fields(NamedTuple):
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview


def decode_thinned(image: RecordedImage, rows: int) -> ThinnedImage:
    """Decode every n-th row, such that at least `rows` are left, or the whole image where it cannot be thinned.

    Raises:
        ImageError: as `RecordedImage.decode`.
    """
    fields = _fields(image) if image.message_type == IMAGE and image.area is None else None
    every = fields.height // rows if fields is not None and fields.encoding in _OF_SINGLE_ROWS else 1
    if fields is None or every < 2 or not fields.step or len(fields.data) < fields.step * fields.height:
        rgb = image.decode()
        return ThinnedImage(rgb, rgb.shape[1], rgb.shape[0])
    thinned = fields._replace(height=fields.height // every, step=fields.step * every)
    return ThinnedImage(decode_image(SimpleNamespace(**thinned._asdict()), image.values), fields.width, fields.height)


def encoding_of(image: RecordedImage) -> str:
    """Return the encoding or format that an image message names.

    It is empty if the bytes are too few, or those of another message, in which no name stands there.
    """
    if image.message_type not in (IMAGE, COMPRESSED):
        try:
            packet = image.video_packet()
        except ImageError:
            return ""
        return packet.codec if packet else ""
    cursor = _Cursor(image)
    try:
        cursor.text()  # frame_id
        if image.message_type == IMAGE:
            cursor.number(), cursor.number()  # height and width
        name = cursor.text()
    except struct.error:
        return ""
    return name if name.isascii() and name.isprintable() else ""


def _fields(image: RecordedImage) -> _Fields | None:
    """None where the bytes are too few."""
    cursor = _Cursor(image)
    try:
        cursor.text()  # frame_id
        height, width, encoding = cursor.number(), cursor.number(), cursor.text()
        is_bigendian, step, length = cursor.byte(), cursor.number(), cursor.number()
    except struct.error:
        return None
    return _Fields(height, width, encoding, is_bigendian, step, memoryview(image.raw)[cursor.place :][:length])


class _Cursor:
    """Reads the fields of a serialised message one by one.

    ROS 1 and CDR agree but in this: CDR counts the closing zero of a text and starts numbers at multiples of four.
    """

    def __init__(self, image: RecordedImage) -> None:
        self._raw, self._is_ros1 = image.raw, image.schema_is_ros1
        self._order = "<" if image.schema_is_ros1 or image.raw[1:2] == b"\x01" else ">"
        # Behind the encapsulation of CDR or the sequence number of ROS 1, and the time stamp.
        self.place = 12

    def byte(self) -> int:
        (value,) = struct.unpack_from("B", self._raw, self.place)
        self.place += 1
        return int(value)

    def number(self) -> int:
        if not self._is_ros1:
            self.place = -(-self.place // 4) * 4
        (value,) = struct.unpack_from(f"{self._order}I", self._raw, self.place)
        self.place += 4
        return int(value)

    def text(self) -> str:
        length = self.number()
        found = bytes(self._raw[self.place : self.place + min(length, 256)])
        self.place += length
        return found.rstrip(b"\0").decode("utf-8", "replace")
