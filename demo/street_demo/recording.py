"""The bag that the demo plays: which frames it holds, and their messages, byte for byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from hrda_core.data.frames import evenly_spaced
from street_demo.errors import DemoError

__all__ = ["IMAGE_TYPE", "STRETCHES_KEY", "Recording", "Stretch", "decode_frame", "header_stamp_ns", "open_recording"]

IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
STRETCHES_KEY = "stretches"
"""Key of the bag's custom metadata that lists its stretches as JSON."""

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Stretch:
    """Consecutive frames of one drive.

    Attributes:
        light: `"day"` or `"dusk"`.
        source: drive that the frames come from.
        first_ns, last_ns: header stamps of the first and last frame, nanoseconds, both included.
    """

    light: str
    source: str
    first_ns: int
    last_ns: int


@dataclass(frozen=True)
class Recording:
    """A bag with one stream of compressed images.

    Attributes:
        path: bag folder.
        topic: topic of the images.
        stamps: header stamps of all frames in the order of the bag, nanoseconds.
        stretches: what the frames show; empty for a bag that does not say.
    """

    path: Path
    topic: str
    stamps: tuple[int, ...]
    stretches: tuple[Stretch, ...]

    def light_at(self, stamp_ns: int) -> str:
        """`"day"`, `"dusk"`, or an empty text for an unknown stretch."""
        return next((part.light for part in self.stretches if part.first_ns <= stamp_ns <= part.last_ns), "")

    def evenly_spaced(self, count: int | None) -> tuple[int, ...]:
        """Stamps of `count` frames spread over the whole recording; all of them for None or a large count."""
        return tuple(evenly_spaced(self.stamps, len(self.stamps) if count is None else count))

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """Header stamp and serialized message (CDR) of each frame, in the order of the bag."""
        with Reader(self.path) as reader:
            wanted = [connection for connection in reader.connections if connection.topic == self.topic]
            for _, _, raw in reader.messages(wanted):
                yield header_stamp_ns(raw), bytes(raw)


def open_recording(path: Path) -> Recording:
    """Read through a bag once.

    Raises:
        DemoError: the bag is missing, damaged, or has no compressed images.
    """
    if not path.is_dir():
        raise DemoError(f"the bag '{path}' is not a folder; check out the whole repository, or give another with --bag")
    try:
        with Reader(path) as reader:
            images = [connection for connection in reader.connections if connection.msgtype == IMAGE_TYPE]
            stamps = tuple(header_stamp_ns(raw) for _, _, raw in reader.messages(images[:1])) if images else ()
        information = yaml.safe_load((path / "metadata.yaml").read_text("utf-8"))["rosbag2_bagfile_information"]
        custom = information.get("custom_data") or {}
        stretches = tuple(Stretch(**part) for part in json.loads(custom.get(STRETCHES_KEY, "[]")))
    except Exception as error:  # rosbags lets struct, YAML, zstd and file errors of a damaged bag through as they are
        raise DemoError(f"the bag '{path}' cannot be read ({error}); check it out again, or give another") from error
    if not stamps:
        raise DemoError(f"the bag '{path}' has no {IMAGE_TYPE} messages; give a bag of a camera with --bag")
    return Recording(path, images[0].topic, stamps, stretches)


def header_stamp_ns(raw: bytes | memoryview) -> int:
    """Header stamp of a serialized message whose first field is a header, nanoseconds."""
    little_endian = raw[1] & 1
    seconds, nanoseconds = struct.unpack_from("<iI" if little_endian else ">iI", raw, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def decode_frame(raw: bytes) -> UInt8Array:
    """Pixels of a serialized CompressedImage: uint8 (H, W, 3), RGB.

    Raises:
        DemoError: the picture inside is damaged.
    """
    message: Any = get_typestore(Stores.LATEST).deserialize_cdr(raw, IMAGE_TYPE)
    pixels = cv2.imdecode(np.asarray(message.data), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise DemoError(f"the frame with stamp {header_stamp_ns(raw)} ns does not decode; check out the bag again")
    return np.asarray(pixels, np.uint8)
