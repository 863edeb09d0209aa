"""The bags that the demo leaves behind: how masks are written and read.

Masks and overlays are logged at their header stamp, so the bag lies on the same time line as the camera's bag.
Label info and diagnostics have no camera stamp and are logged beside the newest mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from street_demo.recording import header_stamp_ns

__all__ = ["MaskBagWriter", "OverlayBagWriter", "read_images"]

UInt8Array = npt.NDArray[np.uint8]

_IMAGE_TYPE = "sensor_msgs/msg/Image"
_UNLIMITED = QosTime(9223372036, 854775807)
_LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
    _UNLIMITED, _UNLIMITED, QosLiveliness.AUTOMATIC, _UNLIMITED, False,
)  # fmt: skip


def _open_writer(path: Path, *, compress: bool) -> Writer:
    # Version 8 is what rosbag2 of Humble, Jazzy and Kilted all read.
    writer = Writer(path, version=8, storage_plugin=StoragePlugin.MCAP)
    if compress:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    writer.open()
    return writer


class MaskBagWriter:
    """Bag of masks, label info and diagnostics. Masks shrink about thirtyfold in its compressed chunks."""

    def __init__(self, path: Path, source: str) -> None:
        store = get_typestore(Stores.ROS2_KILTED)
        self._writer = writer = _open_writer(path, compress=True)
        self._labels = writer.add_connection(f"/{source}/labels", _IMAGE_TYPE, typestore=store)
        self._label_info = writer.add_connection(
            f"/{source}/label_info", "std_msgs/msg/String", typestore=store, offered_qos_profiles=[_LATCHED]
        )
        self._diagnostics = writer.add_connection(
            "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", typestore=store
        )
        self._newest_ns: int | None = None
        self._waiting: list[tuple[Connection, bytes]] = []

    def write_labels(self, stamp_ns: int, raw: bytes) -> None:
        """Add a mask."""
        self._newest_ns = stamp_ns
        for connection, early in self._waiting:
            self._writer.write(connection, stamp_ns, early)
        self._waiting.clear()
        self._writer.write(self._labels, stamp_ns, raw)

    def write_label_info(self, raw: bytes) -> None:
        """Add the latched description of the classes."""
        self._write_beside(self._label_info, raw)

    def write_diagnostics(self, raw: bytes) -> None:
        """Add a diagnostics message."""
        self._write_beside(self._diagnostics, raw)

    def close(self) -> None:
        """Finish the bag."""
        self._writer.close()

    def _write_beside(self, connection: Connection, raw: bytes) -> None:
        if self._newest_ns is None:
            self._waiting.append((connection, raw))
        else:
            self._writer.write(connection, self._newest_ns, raw)


class OverlayBagWriter:
    """Working bag of overlay pictures, uncompressed because photographs hardly shrink."""

    def __init__(self, path: Path, source: str) -> None:
        self._writer = _open_writer(path, compress=False)
        self._connection = self._writer.add_connection(
            f"/{source}/overlay", _IMAGE_TYPE, typestore=get_typestore(Stores.ROS2_KILTED)
        )

    def write(self, stamp_ns: int, raw: bytes) -> None:
        """Add a picture."""
        self._writer.write(self._connection, stamp_ns, raw)

    def close(self) -> None:
        """Finish the bag."""
        self._writer.close()


def read_images(path: Path, topic_end: str) -> Iterator[tuple[int, UInt8Array]]:
    """Stamp and pixels of the 8-bit images on the topic that ends so: uint8 (H, W) for mono8, else (H, W, 3)."""
    store = get_typestore(Stores.ROS2_KILTED)
    with Reader(path) as reader:
        wanted = [connection for connection in reader.connections if connection.topic.endswith(topic_end)]
        for _, _, raw in reader.messages(wanted):
            message: Any = store.deserialize_cdr(raw, _IMAGE_TYPE)
            shape = (message.height, message.width, *([] if message.encoding == "mono8" else [3]))
            # The node writes its rows without padding: the bytes are the pixels.
            yield header_stamp_ns(raw), np.asarray(message.data, np.uint8).reshape(shape)
