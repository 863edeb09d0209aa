"""An image of a recording that is not decoded yet, and the time stamp of a serialised message."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hrda_core.camera_areas import CameraArea
from hrda_core.data.image_files import UInt8Array
from hrda_core.errors import HrdaError, ImageError, how_to_install, require, shown
from hrda_core.messages import decode_compressed, decode_image
from hrda_core.messages.picture_size import MAX_MEGAPIXELS
from hrda_core.messages.value_range import FULL_RANGE, PixelValues
from hrda_core.messages.video import video_codec

__all__ = ["COMPRESSED", "IMAGE", "IMAGE_TYPES", "RecordedImage", "VideoPacket", "header_stamp", "read_header"]

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_FOXGLOVE, _FFMPEG = "foxglove_msgs/msg/CompressedVideo", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
IMAGE_TYPES = (IMAGE, COMPRESSED, _FOXGLOVE, _FFMPEG)

_ROS2_VIDEO = {
    _FOXGLOVE: "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format",
    _FFMPEG: "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n"
    "bool is_bigendian\nuint8[] data",
}
_ROS1_VIDEO = {
    _FOXGLOVE: "time timestamp\nstring frame_id\nuint8[] data\nstring format",
    _FFMPEG: "std_msgs/Header header\nuint8[] data\nint32 img_width\nint32 img_height\nstring encoding\n"
    "uint64 pts\nuint8 flags",
}


class VideoPacket(NamedTuple):
    """What a message holds of a video: the codec as the message names it, and the bytes."""

    codec: str
    data: bytes


@dataclass(frozen=True)
class RecordedImage:
    """An image message as stored in a recording.

    Attributes:
        topic: topic of the message.
        stamp_ns: time in its header, or in the recording if the header has none, ns.
        log_ns: time in the recording, ns.
        recording: file or folder that it came from.
        number: 0, 1, ... among the images of its topic over all recordings, in order of reading.
        message_type: one of `IMAGE_TYPES`.
        raw: the serialised message, not compressed.
        schema_is_ros1: the message is serialised by ROS 1, not as CDR.
        picture: the `av.VideoFrame` that begins in the message, where it is a packet of a video; None = not decoded.
        values: turns pixels of 16 bits into bytes.
        area: what of the picture counts; None = all of it.
        max_megapixels: a compressed picture whose header states more million pixels is not decoded.
    """

    topic: str
    stamp_ns: int
    log_ns: int
    recording: Path
    number: int
    message_type: str
    raw: bytes = field(repr=False)
    schema_is_ros1: bool = False
    picture: Any = field(default=None, repr=False, compare=False)
    values: PixelValues = field(default=FULL_RANGE, compare=False, repr=False)
    area: CameraArea | None = field(default=None, compare=False, repr=False)
    max_megapixels: int = field(default=MAX_MEGAPIXELS, compare=False, repr=False)

    def decode(self) -> UInt8Array:
        """Decode the pixels: uint8 (H, W, 3) RGB, which may be a read-only view of `raw`.

        With an `area`, they are those of the largest rectangle in which every pixel counts.

        Raises:
            ImageError: `cause` is `message` if the bytes are no such message, else as
                `hrda_core.messages.decode_image` and `decode_compressed` say, and `area` if the area is for another
                size.
            MissingPackageError: rosbags is not installed.
        """
        return self._whole() if self.area is None else self.area.cut(self._whole())

    def _whole(self) -> UInt8Array:
        if self.picture is not None:
            return np.asarray(self.picture.to_ndarray(format="rgb24"), np.uint8)
        packet = self.video_packet()
        if packet is not None:
            raise ImageError(
                f"a packet of a video ('{shown(packet.codec)}') is no picture by itself; h264 and h265 are decoded "
                f"where the Python package 'av' is installed, {how_to_install('video', 'av')}",
                "codec" if not video_codec(packet.codec) else "video",
            )
        message = self._message()
        if self.message_type == COMPRESSED:
            return decode_compressed(message, self.values, max_megapixels=self.max_megapixels)
        return decode_image(message, self.values)

    def video_packet(self) -> VideoPacket | None:
        """Return what the message holds of a video; None if it holds a picture.

        Raises:
            ImageError, MissingPackageError: as `decode`.
        """
        if self.message_type == IMAGE:
            return None
        message = self._message()
        name = str(message.encoding if self.message_type == _FFMPEG else message.format)
        if self.message_type == COMPRESSED and not video_codec(name):
            return None
        return VideoPacket(name, bytes(message.data))

    @property
    def header(self) -> tuple[int, int, str]:
        """Seconds, nanoseconds and frame_id of the message."""
        return read_header(_with_header(self.raw, self.schema_is_ros1, self.message_type), self.schema_is_ros1)

    def _message(self) -> Any:
        store = _types(self.schema_is_ros1)
        try:
            deserialise = store.deserialize_ros1 if self.schema_is_ros1 else store.deserialize_cdr
            return deserialise(self.raw, self.message_type)
        except HrdaError:
            raise
        except Exception as error:  # of struct, numpy, text decoding and rosbags itself
            raise ImageError(f"{len(self.raw)} bytes are no {self.message_type} ({error})", "message") from error


def _with_header(raw: bytes, is_ros1: bool, message_type: str) -> bytes:
    """The message as if it began with a Header. Foxglove's begins with the fields of one, but for ROS 1's number."""
    return b"\0\0\0\0" + raw if is_ros1 and message_type == _FOXGLOVE else raw


def header_stamp(raw: bytes, is_ros1: bool, message_type: str = IMAGE) -> int:
    """Return the time stamp, ns, of a serialised message of one of `IMAGE_TYPES`.

    It is 0 if the header has none or makes no sense.
    """
    raw = _with_header(raw, is_ros1, message_type)
    if len(raw) < 12:
        return 0
    seconds, nanoseconds, _ = read_header(raw, is_ros1)
    return seconds * 10**9 + nanoseconds if seconds >= 0 and nanoseconds < 10**9 else 0


def read_header(raw: bytes, is_ros1: bool) -> tuple[int, int, str]:
    """Read seconds, nanoseconds and frame_id of a serialised message of 12 bytes or more that begins with a Header.

    In CDR it follows four bytes of encapsulation, the second odd if little-endian, and its text ends with a zero that
    its length counts. In ROS 1 it follows a sequence number instead, is always little-endian, and its text has no zero.
    """
    little = is_ros1 or bool(raw[1] & 1)
    seconds, nanoseconds = struct.unpack_from(f"{'<' if little else '>'}{'I' if is_ros1 else 'i'}I", raw, 4)
    length = int.from_bytes(raw[12:16], "little" if little else "big")
    return seconds, nanoseconds, bytes(raw[16 : 16 + length]).rstrip(b"\0").decode("utf-8", "replace")


@cache
def _types(is_ros1: bool) -> Any:
    """The messages of cameras: they are the same in every distribution."""
    typesys = require("rosbags.typesys", "bag")
    store = typesys.get_typestore(typesys.Stores.ROS1_NOETIC if is_ros1 else typesys.Stores.ROS2_HUMBLE)
    for name, fields in (_ROS1_VIDEO if is_ros1 else _ROS2_VIDEO).items():
        store.register(typesys.get_types_from_msg(fields, name))
    return store
