"""Writes points into `sensor_msgs/PointCloud2`, in place where the size stays. Needs no rclpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_ros.space.point_cloud import POINT

__all__ = ["CloudMessage"]

_FLOAT32, _UINT8 = 7, 2  # of sensor_msgs/PointField
_DATATYPES = {"x": _FLOAT32, "y": _FLOAT32, "z": _FLOAT32, "rgb": _FLOAT32, "label": _UINT8, "confidence": _UINT8}
"""`rgb` is called a float by convention; its four bytes are the colour."""


class CloudMessage:
    """One `sensor_msgs/PointCloud2` that is filled again and again.

    Publishing serialises a message before it returns, so the memory can be written again afterwards.

    Args:
        message: an empty message, whose `data` is an `array.array("B")` as rclpy makes it.
        new_field: makes an empty `sensor_msgs/PointField`.

    Attributes:
        message: the message.
    """

    def __init__(self, message: Any, new_field: Callable[[], Any]) -> None:
        self.message = message
        assert POINT.fields is not None
        for name, (_, offset, *_rest) in POINT.fields.items():
            field = new_field()
            field.name, field.offset, field.datatype, field.count = name, offset, _DATATYPES[name], 1
            message.fields.append(field)
        message.point_step = POINT.itemsize
        message.is_bigendian = False
        self._points: npt.NDArray[np.void] = np.empty((0, 0), POINT)

    def points(self, rows: int, columns: int) -> npt.NDArray[np.void]:
        """Return the message's own memory as a `POINT` array (rows, columns), for a cloud with a place for each pixel.

        The places without a point are to be NaN.
        """
        if self._points.shape != (rows, columns):
            self._set_size(rows, columns, is_dense=False)
            data = self.message.data
            self._points = np.empty((0, 0), POINT)  # an array that is looked at cannot grow
            del data[:]
            data.frombytes(bytes(rows * columns * POINT.itemsize))
            self._points = np.frombuffer(data, POINT).reshape(rows, columns)
        return self._points

    def copy(self, points: npt.NDArray[np.void]) -> None:
        """Copy a `POINT` array (N,) into the message."""
        self._set_size(1, len(points), is_dense=True)
        del self.message.data[:]
        self.message.data.frombytes(points.tobytes())

    def _set_size(self, rows: int, columns: int, *, is_dense: bool) -> None:
        self.message.height, self.message.width = rows, columns
        self.message.row_step = columns * POINT.itemsize
        self.message.is_dense = is_dense
