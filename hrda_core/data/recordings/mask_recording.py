"""Writes masks as a rosbag2 recording, to be played beside that of the camera images. Needs the package rosbags.

Every mask has the header of its camera image and is logged at the image's time, so both recordings lie on one time
line and play together. Chunks are compressed: masks shrink about thirtyfold.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from hrda_core.data.image_files import UInt8Array
from hrda_core.data.recordings.cameras import raw_topic
from hrda_core.data.recordings.recorded_image import IMAGE, RecordedImage
from hrda_core.errors import DataError, require

__all__ = ["MaskBagWriter", "RecordingWriter", "camera_names"]

_Writer = TypeVar("_Writer", bound="RecordingWriter")

_TEXT = "std_msgs/msg/String"
_VERSION = 8  # of the recording; what rosbag2 of Humble, Jazzy and Kilted all read
_ENCODINGS = {2: "mono8", 3: "rgb8"}
"""Number of an array's dimensions -> encoding of its message."""


def camera_names(topics: Sequence[str]) -> dict[str, str]:
    """Return topic of images -> name of the camera, below which its masks are published.

    The image transport and a last part such as `image_raw` are left out: `/camera/front/image_raw/compressed` is
    `/camera/front`. Where that gives two topics the same name, all keep their whole topic.
    """
    names = {topic: _camera(topic) for topic in topics}
    if len(set(names.values())) < len(names):
        return {topic: "/" + topic.strip("/") for topic in names}
    return names


def _camera(topic: str) -> str:
    name = raw_topic(topic)
    parent, last = posixpath.split(name)
    return parent.rstrip("/") if last.startswith("image") else name


class RecordingWriter:
    """A new rosbag2 recording of serialised messages, as a context manager.

    After an error the file is closed without an index.

    Args:
        path: folder of the recording; must not exist.
        compress: compress chunks, which helps for masks but not for camera pictures.
        about: texts for the recording's metadata, by key.

    Raises:
        DataError: the folder exists.
        MissingPackageError: rosbags is not installed.
    """

    def __init__(self, path: Path, *, compress: bool = True, about: Mapping[str, str] | None = None) -> None:
        rosbag2, typesys = require("rosbags.rosbag2", "bag"), require("rosbags.typesys", "bag")
        if path.exists():
            raise DataError(f"the recording '{path}' exists already; give a path that is free")
        self._store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        self._connections: dict[tuple[str, str], Any] = {}
        self._writer = rosbag2.Writer(path, version=_VERSION, storage_plugin=rosbag2.StoragePlugin.MCAP)
        if compress:
            self._writer.set_compression(rosbag2.CompressionMode.STORAGE, rosbag2.CompressionFormat.ZSTD)
        for key, text in (about or {}).items():
            self._writer.set_custom_data(key, text)
        self._writer.open()

    def write(self, topic: str, kind: str, log_ns: int, data: bytes | memoryview, *, latched: bool = False) -> None:
        """Add a serialised message.

        Args:
            topic: topic of the message.
            kind: type of the message, for example `sensor_msgs/msg/Image`.
            log_ns: its time in the recording, ns.
            data: the message, CDR.
            latched: a player offers the topic to late subscribers too.
        """
        key = topic, kind
        if key not in self._connections:
            self._connections[key] = self._writer.add_connection(
                topic, kind, typestore=self._store, offered_qos_profiles=[_latched()] if latched else []
            )
        self._writer.write(self._connections[key], log_ns, data)

    def close(self) -> None:
        """Write the index and the metadata."""
        self._writer.close()

    def __enter__(self: _Writer) -> _Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._writer.abort()


class MaskBagWriter(RecordingWriter):
    """A new recording with `CAMERA/segmentation/NAME` for every mask name and a latched `label_info`.

    Args:
        path: folder of the recording; must not exist.
        cameras: topic of images -> name of the camera, see `camera_names`.
        label_info: JSON text about the class ids, see `hrda_core.inference.label_info`.

    Raises:
        DataError, MissingPackageError: as `RecordingWriter`.
    """

    def __init__(self, path: Path, cameras: Mapping[str, str], label_info: str) -> None:
        super().__init__(path)
        self._cameras, self._label_info = cameras, label_info

    def write_masks(self, image: RecordedImage, masks: Mapping[str, UInt8Array]) -> None:
        """Add the masks of an image.

        Args:
            image: image whose header and time they get; its topic is one of `cameras`.
            masks: last part of the topic -> uint8 (H, W), written as mono8, or (H, W, 3) RGB, written as rgb8.
        """
        base = f"{self._cameras[image.topic]}/segmentation"
        if (f"{base}/label_info", _TEXT) not in self._connections:
            self._write_label_info(f"{base}/label_info", image.log_ns)
        types, header = self._store.types, self._header(image)
        for name, pixels in masks.items():
            message = types[IMAGE](
                header=header,
                height=pixels.shape[0],
                width=pixels.shape[1],
                encoding=_ENCODINGS[pixels.ndim],
                is_bigendian=0,
                step=int(np.prod(pixels.shape[1:])),
                data=np.ascontiguousarray(pixels).reshape(-1),
            )
            self.write(f"{base}/{name}", IMAGE, image.log_ns, self._store.serialize_cdr(message, IMAGE))

    def copy_image(self, image: RecordedImage) -> None:
        """Add the camera image itself, on its topic.

        A ROS 1 message is converted to ROS 2; if its bytes are no such message it is left out.

        Raises:
            DataError: it is a packet of a video, which is worth nothing without those before it.
        """
        if image.picture is not None:
            raise DataError(
                f"the images of topic '{image.topic}' are packets of a video, which are not copied; leave "
                "--copy_camera out, and play the recording beside that of the masks"
            )
        raw: bytes | memoryview = image.raw
        if image.schema_is_ros1:
            try:
                raw = self._store.ros1_to_cdr(raw, image.message_type)
            except require("rosbags.serde", "bag").SerdeError:
                return
        self.write("/" + image.topic.strip("/"), image.message_type, image.log_ns, raw)

    def _header(self, image: RecordedImage) -> Any:
        types = self._store.types
        sec, nanosec, frame_id = image.header
        return types["std_msgs/msg/Header"](
            stamp=types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec), frame_id=frame_id
        )

    def _write_label_info(self, topic: str, log_ns: int) -> None:
        text = self._store.types[_TEXT](data=self._label_info)
        self.write(topic, _TEXT, log_ns, self._store.serialize_cdr(text, _TEXT), latched=True)


def _latched() -> Any:
    """QoS of the node's `~/label_info`: a player offers it to late subscribers too."""
    rosbags = require("rosbags.interfaces", "bag")
    unlimited = rosbags.QosTime(9223372036, 854775807)
    return rosbags.Qos(
        rosbags.QosHistory.KEEP_LAST, 1, rosbags.QosReliability.RELIABLE, rosbags.QosDurability.TRANSIENT_LOCAL,
        unlimited, unlimited, rosbags.QosLiveliness.AUTOMATIC, unlimited, False,
    )  # fmt: skip
