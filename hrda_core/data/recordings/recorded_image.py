"""An image of a recording that is not decoded yet, and the time stamp of a serialised message."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from hrda_core.data.image_files import UInt8Array
from hrda_core.errors import HrdaError, ImageError, require
from hrda_core.messages import decode_compressed, decode_image

__all__ = ["COMPRESSED", "IMAGE", "IMAGE_TYPES", "RecordedImage", "header_stamp", "read_header"]

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
IMAGE_TYPES = (IMAGE, COMPRESSED)


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
    """

    topic: str
    stamp_ns: int
    log_ns: int
    recording: Path
    number: int
    message_type: str
    raw: bytes = field(repr=False)
    schema_is_ros1: bool = False

    def decode(self) -> UInt8Array:
        """Decode the pixels: uint8 (H, W, 3) RGB, which may be a read-only view of `raw`.

        Raises:
            ImageError: `cause` is `message` if the bytes are no such message, else as
                `hrda_core.messages.decode_image` and `decode_compressed` say.
            MissingPackageError: rosbags is not installed.
        """
        store = _types(self.schema_is_ros1)
        try:
            deserialise = store.deserialize_ros1 if self.schema_is_ros1 else store.deserialize_cdr
            message = deserialise(self.raw, self.message_type)
        except HrdaError:
            raise
        except Exception as error:  # of struct, numpy, text decoding and rosbags itself
            raise ImageError(f"{len(self.raw)} bytes are no {self.message_type} ({error})", "message") from error
        return decode_compressed(message) if self.message_type == COMPRESSED else decode_image(message)


def header_stamp(raw: bytes, is_ros1: bool) -> int:
    """Return the time stamp, ns, of a serialised message that begins with a `std_msgs/Header`.

    It is 0 if the header has none or makes no sense.
    """
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
    """The standard messages: those of a camera are the same in every distribution."""
    typesys = require("rosbags.typesys", "bag")
    return typesys.get_typestore(typesys.Stores.ROS1_NOETIC if is_ros1 else typesys.Stores.ROS2_HUMBLE)
