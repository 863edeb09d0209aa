"""Outputs that are made of the class ids and only while somebody subscribes. Needs no rclpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import LabelSpaceError
from hrda_core.labels import LabelSpace
from hrda_ros.masks.codec import MessageBuffer
from hrda_ros.settings.class_names import unknown_names

__all__ = ["ClassMask", "CompressedLabels", "DerivedMask"]

UInt8Array = npt.NDArray[np.uint8]

_FAST = (cv2.IMWRITE_PNG_COMPRESSION, 1)


class DerivedMask(Protocol):
    """One output; its topic is `~/NAME`."""

    name: str
    publisher: Any

    def publish(self, header: Any, labels: UInt8Array) -> None:
        """Publish what is made of class ids, uint8 (H, W), with the header of the camera message."""
        ...


class ClassMask:
    """`~/mask`: where the pixels of some classes are.

    Args:
        publisher: publishes `sensor_msgs/Image`.
        new_message: makes an empty one.
        space: classes of the ids.
        names: the classes.

    Raises:
        LabelSpaceError: a name is no class of the space.
    """

    name = "mask"

    def __init__(self, publisher: Any, new_message: Callable[[], Any], space: LabelSpace, names: list[str]) -> None:
        if problem := unknown_names(names, space, "mask_classes"):
            raise LabelSpaceError(problem)
        self.publisher = publisher
        self._buffer = MessageBuffer(new_message, "mono8")
        self._table = np.zeros(256, np.uint8)
        self._table[[space.classes.index(name) for name in names]] = 255

    def publish(self, header: Any, labels: UInt8Array) -> None:
        """Publish mono8: 255 where a pixel is of one of the classes, else 0."""
        cv2.LUT(labels, self._table, self._buffer.begin(header, *labels.shape))  # np.take needs three times as long
        self.publisher.publish(self._buffer.message)


class CompressedLabels:
    """`~/labels/compressed`: the class ids as PNG, without loss, named as image_transport names it.

    Args:
        publisher: publishes `sensor_msgs/CompressedImage`.
        new_message: makes an empty one, whose `data` is an `array.array("B")` as rclpy makes it.
    """

    name = "labels/compressed"

    def __init__(self, publisher: Any, new_message: Callable[[], Any]) -> None:
        self.publisher = publisher
        self._message = new_message()
        self._message.format = "mono8; png compressed mono8"

    def publish(self, header: Any, labels: UInt8Array) -> None:
        """Publish a PNG of one channel."""
        _, data = cv2.imencode(".png", labels, _FAST)
        self._message.header = header
        del self._message.data[:]
        self._message.data.frombytes(data.data)
        self.publisher.publish(self._message)
