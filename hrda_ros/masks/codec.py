"""Writes masks into `sensor_msgs/Image`, or into any object with the same fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["MessageBuffer", "fill_image"]

UInt8Array = npt.NDArray[np.uint8]
Message = Any
"""A ROS message, or anything with the same fields; `rclpy` has no static types for messages."""


def fill_image(message: Message, pixels: UInt8Array, encoding: str) -> None:
    """Copy an array into an image message. The header is left alone.

    Args:
        message: `sensor_msgs/Image`, whose `data` is an `array.array("B")` as rclpy makes it.
        pixels: uint8 (H, W) or (H, W, C).
        encoding: name of the pixel layout, for example `"mono8"`.
    """
    message.height, message.width = pixels.shape[:2]
    message.encoding = encoding
    message.is_bigendian = 0
    message.step = int(np.prod(pixels.shape[1:]))
    # Filling the message's own array is the only way with one copy on all distributions: the setter of recent ones
    # copies what it is given, the setter of old ones checks each byte of anything but an array.
    del message.data[:]
    message.data.frombytes(np.ascontiguousarray(pixels).reshape(-1).data)


_OUTPUT_CHANNELS = {"mono8": 1, "rgb8": 3}


class MessageBuffer:
    """An output image message that keeps its pixel memory from frame to frame, so that masks are written in place.

    Publishing serialises a message before it returns, so the memory can be written again afterwards.

    Args:
        new_message: makes an empty `sensor_msgs/Image`.
        encoding: encoding of the message, `"mono8"` or `"rgb8"`.
    """

    def __init__(self, new_message: Callable[[], Message], encoding: str) -> None:
        self._new_message = new_message
        self._encoding = encoding
        self._channels = _OUTPUT_CHANNELS[encoding]
        self.message = new_message()
        self._pixels: UInt8Array = np.empty((0, 0), np.uint8)

    def begin(self, header: Message, height: int, width: int) -> UInt8Array:
        """Prepare `message` for a frame.

        Args:
            header: `std_msgs/Header` of the camera message, which goes into the mask as it is.
            height, width: size of the mask, pixels.

        Returns:
            the message's pixels: uint8 (height, width) for mono8, (height, width, 3) for rgb8; writable.
        """
        shape = (height, width) if self._channels == 1 else (height, width, self._channels)
        if self._pixels.shape != shape:
            self._resize(shape)
        self.message.header = header
        return self._pixels

    def _resize(self, shape: tuple[int, ...]) -> None:
        message = self._new_message()
        message.height, message.width = shape[:2]
        message.encoding = self._encoding
        message.is_bigendian = 0
        message.step = shape[1] * self._channels
        data = message.data
        data.append(0)
        data *= shape[0] * message.step  # grows the message's own array, in place
        self.message, self._pixels = message, np.frombuffer(data, np.uint8).reshape(shape)
