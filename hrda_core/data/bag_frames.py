"""Camera images of a recording by index: rosbag2 (folder, .mcap, .db3) and ROS 1 (.bag). Needs the package rosbags.

The messages are listed once, without decoding an image; an image is then found by its time in the recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.data.image_files import UInt8Array
from hrda_core.data.unlabelled import PerProcess, UnlabelledFrames
from hrda_core.errors import DataError, HrdaError, require

__all__ = ["BagFrames", "open_bag"]

_IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")

_TO_RGB: Mapping[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
}
"""Encoding -> bytes of a pixel and OpenCV's conversion to RGB."""


@dataclass(frozen=True)
class BagFrames(UnlabelledFrames):
    """The images of one topic of a recording.

    Attributes:
        path: of the recording.
        topic: image topic.
        stamps: time of each image in the recording, ns, in its order.
    """

    path: Path
    topic: str
    stamps: npt.NDArray[np.int64] = field(compare=False, repr=False)
    _reader: PerProcess[Any] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_reader", PerProcess(partial(_open_reader, self.path)))

    def __len__(self) -> int:
        return len(self.stamps)

    def load(self, index: int) -> UInt8Array:
        index = range(len(self))[index]
        stamp = int(self.stamps[index])
        # Several images may bear one time: the how-manieth of them is it?
        place = index - int(np.searchsorted(self.stamps, stamp))
        where = f"image {index} of topic '{self.topic}' in recording '{self.path}'"
        with self._reader.use() as reader, _as_data_error(where):
            connections = [entry for entry in reader.connections if entry.topic == self.topic]
            for number, (entry, _, raw) in enumerate(reader.messages(connections, start=stamp, stop=stamp + 1)):
                if number == place:
                    return _decode(reader.deserialize(raw, entry.msgtype), where)
        raise DataError(f"{where} is not there any more; was the recording changed?")

    def describe(self) -> str:
        seconds = float(self.stamps[-1] - self.stamps[0]) / 1e9
        return f"{len(self)} images of topic '{self.topic}' in recording '{self.path}', {seconds:.1f} s"

    def sizes(self) -> Iterator[tuple[str, int, int]]:
        height, width = self.load(0).shape[:2]
        yield f"{self.path} image 0", height, width


def open_bag(path: Path, topic: str = "") -> BagFrames:
    """List the images of a recording.

    Args:
        path: rosbag2 folder, .mcap, .db3 or .bag file.
        topic: image topic; empty = the only one.

    Raises:
        DataError: the recording is damaged or empty, the topic is not an image topic or not unique.
        MissingPackageError: rosbags is not installed.
    """
    with closing(_open_reader(path)) as reader, _as_data_error(f"recording '{path}'"):
        images = [entry for entry in reader.connections if entry.msgtype in _IMAGE_TYPES]
        chosen = _choose_topic(path, sorted({entry.topic for entry in images}), topic)
        connections = [entry for entry in images if entry.topic == chosen]
        stamps = sorted(stamp for _, stamp, _ in reader.messages(connections))
    if not stamps:
        raise DataError(f"topic '{chosen}' of recording '{path}' holds no image; give another recording or topic")
    return BagFrames(path, chosen, np.asarray(stamps, np.int64))


def _open_reader(path: Path) -> Any:
    highlevel = require("rosbags.highlevel", "bag")
    typesys = require("rosbags.typesys", "bag")
    # Older rosbag2 files hold no message definitions.
    typestore = typesys.get_typestore(typesys.Stores.LATEST)
    with _as_data_error(f"recording '{path}'"):
        reader = highlevel.AnyReader([_storage(path)], default_typestore=typestore)
        reader.open()
    return reader


def _storage(path: Path) -> Path:
    """The storage file of a rosbag2 folder without metadata: recorders write those at the end, if they get there."""
    if path.is_file() or (path / "metadata.yaml").is_file():
        return path
    files = sorted(entry for entry in path.iterdir() if entry.suffix in (".mcap", ".db3"))
    if len(files) != 1:
        raise DataError(
            f"recording '{path}' has no metadata.yaml and {len(files)} storage files; give one of the files"
        )
    return files[0]


def _choose_topic(path: Path, topics: list[str], topic: str) -> str:
    listed = ", ".join(topics)
    if not topics:
        raise DataError(f"recording '{path}' has no image topic; expected messages of {' or '.join(_IMAGE_TYPES)}")
    if topic and topic not in topics:
        raise DataError(f"recording '{path}' has no image topic '{topic}'; it has: {listed}")
    if not topic and len(topics) > 1:
        raise DataError(f"recording '{path}' has several image topics; give one of: {listed}")
    return topic or topics[0]


def _decode(message: Any, where: str) -> UInt8Array:
    """Pixels of an Image or CompressedImage message: uint8 (H, W, 3), RGB."""
    data = np.asarray(message.data, np.uint8)
    if not hasattr(message, "encoding"):
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
        if bgr is None:
            raise DataError(f"{where} ('{message.format}', {data.size} bytes) does not decode; expected JPEG or PNG")
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    if message.encoding not in _TO_RGB:
        raise DataError(f"{where} is encoded as '{message.encoding}'; supported are {', '.join(_TO_RGB)}")
    depth, conversion = _TO_RGB[message.encoding]
    height, width, step = message.height, message.width, message.step
    if not height * width or step < width * depth or data.size < step * height:
        raise DataError(f"{where} says {width}x{height} pixels, step {step}, and holds {data.size} bytes: too few")
    rows = data[: step * height].reshape(height, step)[:, : width * depth]
    pixels = np.ascontiguousarray(rows).reshape(height, width, depth)
    return pixels if conversion is None else np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)


@contextmanager
def _as_data_error(where: str) -> Iterator[None]:
    """rosbags lets struct, YAML, zstd, SQLite and file errors of a damaged recording through as they are."""
    try:
        yield
    except HrdaError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where} cannot be read ({text}); copy it again, or record it anew") from error
