"""Small recordings of noise images in every storage format, and where each image lies in the file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mcap.writer import CompressionType, Writer
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_HUMBLE)
STORE1 = get_typestore(Stores.ROS1_NOETIC)
TOPIC = "/camera/image_raw"
IMAGE, COMPRESSED, TEXT = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "std_msgs/msg/String"
SECOND = 1_000_000_000
START = 1_700_000_000
CHUNKS = {
    "chunks": CompressionType.NONE,
    "zstd": CompressionType.ZSTD,
    "lz4": CompressionType.LZ4,
    "flat": CompressionType.NONE,
}
PLUGINS = {"mcap": StoragePlugin.MCAP, "db3": StoragePlugin.SQLITE3}


def noise(number: int, height: int = 60, width: int = 60) -> np.ndarray:
    """RGB noise, another for each number."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def image_message(number: int, store: Any = STORE, stamp: int | None = None, **fields: Any) -> Any:
    """A `sensor_msgs/Image` of `noise(number)`, stamped with its number in s."""
    rgb = noise(number)
    time = store.types["builtin_interfaces/msg/Time"](sec=START + number if stamp is None else stamp, nanosec=0)
    header = {"stamp": time, "frame_id": "camera", **({"seq": number} if store is STORE1 else {})}
    values = {
        "header": store.types["std_msgs/msg/Header"](**header),
        "height": rgb.shape[0],
        "width": rgb.shape[1],
        "encoding": "rgb8",
        "is_bigendian": 0,
        "step": 3 * rgb.shape[1],
        "data": rgb.reshape(-1),
    }
    return store.types[IMAGE](**{**values, **fields})


@cache
def serialised(number: int, kind: str) -> bytes:
    """The message of an image as it lies in a file of that kind."""
    if kind == "bag":
        return bytes(STORE1.serialize_ros1(image_message(number, STORE1), IMAGE))
    return bytes(STORE.serialize_cdr(image_message(number), IMAGE))


def record(
    path: Path, kind: str, numbers: Sequence[int], *, topic: str = TOPIC, mode: CompressionMode | None = None
) -> Path:
    """Write a recording of images.

    Args:
        path: of the folder, or of the file without its suffix.
        kind: `mcap` or `db3` (a folder, written by rosbags, without checksums), `bag`, or a .mcap file as the
            recorder of ROS 2 writes it: `chunks`, `zstd` and `lz4` have checksums, `flat` has no chunks.
        numbers: of the images, each recorded at its number in s.
        topic: of the images.
        mode: compression by zstd.

    Returns:
        the storage file.
    """
    if kind in CHUNKS:
        return _record_mcap(path.with_suffix(".mcap"), kind, numbers, topic)
    if kind == "bag":
        file = path.with_suffix(".bag")
        with Writer1(file) as writer:
            connection = writer.add_connection(topic, IMAGE, typestore=STORE1)
            for number in numbers:
                writer.write(connection, (START + number) * SECOND, serialised(number, kind))
        return file
    writer2 = Writer2(path, version=8, storage_plugin=PLUGINS[kind])
    if mode is not None:
        writer2.set_compression(mode, CompressionFormat.ZSTD)
    with writer2:
        connection = writer2.add_connection(topic, IMAGE, typestore=STORE)
        text = writer2.add_connection("/text", TEXT, typestore=STORE)
        for number in numbers:
            writer2.write(connection, (START + number) * SECOND, serialised(number, kind))
            message = STORE.types[TEXT](data="between")
            writer2.write(text, (START + number) * SECOND, STORE.serialize_cdr(message, TEXT))
    return storage_file(path)


def storage_file(folder: Path) -> Path:
    """The storage file of a rosbag2 folder."""
    return next(path for path in folder.iterdir() if path.name != "metadata.yaml")


def _record_mcap(file: Path, kind: str, numbers: Sequence[int], topic: str) -> Path:
    with file.open("wb") as stream:
        writer = Writer(stream, chunk_size=200_000, compression=CHUNKS[kind], use_chunking=kind != "flat")
        writer.start(profile="ros2", library="test")
        schema = writer.register_schema(IMAGE, "ros2msg", b"uint8 x")
        channel = writer.register_channel(topic, "cdr", schema)
        for number in numbers:
            time = (START + number) * SECOND
            writer.add_message(channel, time, serialised(number, kind), time)
        writer.finish()
    return file


def byte_ranges(content: bytes, raw: bytes) -> list[tuple[int, int]]:
    """Where the bytes of a message lie in a file that may have split it into pages: (begin, end) of short pieces.

    The pieces overlap all pages of the message, its first and its last bytes among them.
    """
    found = []
    for begin in [*range(0, len(raw) - 24, 500), len(raw) - 24]:
        at = content.find(raw[begin : begin + 24])
        if at >= 0:  # else it lies across two pages
            found.append((at, at + 24))
    return found
