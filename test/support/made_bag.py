"""Recordings of given images, written with rosbags: rosbag2, mcap or sqlite3, raw or JPEG."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_HUMBLE)
TOPIC = "/camera/image_raw"
START_NS = 1_700_000_000 * 10**9


def write_made_bag(
    path: Path, images: Iterable[np.ndarray], *, hz: float = 2.0, topic: str = TOPIC, jpeg: bool = False
) -> Path:
    """Write RGB images uint8 (H, W, 3) as a rosbag2 recording (mcap); returns its folder."""
    kind = "sensor_msgs/msg/CompressedImage" if jpeg else "sensor_msgs/msg/Image"
    writer = Writer(path, version=8, storage_plugin=StoragePlugin.MCAP)
    with writer:
        connection = writer.add_connection(topic, kind, typestore=STORE)
        for number, rgb in enumerate(images):
            stamp = START_NS + round(number * 1e9 / hz)
            message = _compressed(rgb, stamp) if jpeg else _raw(rgb, stamp)
            writer.write(connection, stamp, STORE.serialize_cdr(message, kind))
    return path


def _header(stamp: int) -> object:
    time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")


def _raw(rgb: np.ndarray, stamp: int) -> object:
    height, width = rgb.shape[:2]
    return STORE.types["sensor_msgs/msg/Image"](
        header=_header(stamp),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=np.ascontiguousarray(rgb).reshape(-1),
    )


def _compressed(rgb: np.ndarray, stamp: int) -> object:
    data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].reshape(-1)
    return STORE.types["sensor_msgs/msg/CompressedImage"](header=_header(stamp), format="jpeg", data=data)
