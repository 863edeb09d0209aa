"""Messages for nodes that place masks in space, with the fields of ROS and without ROS."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

__all__ = ["camera_info", "info_fields"]


def info_fields(
    width: int, height: int, focal: float = 100.0, center: tuple[float, float] | None = None, **fields: Any
) -> dict[str, Any]:
    """Fields of a `sensor_msgs/CameraInfo` without distortion, if not said otherwise."""
    cx, cy = center or ((width - 1) / 2, (height - 1) / 2)
    k = np.array([focal, 0, cx, 0, focal, cy, 0, 0, 1], float)
    return {"width": width, "height": height, "distortion_model": "plumb_bob", "d": [0.0] * 5, "k": k, **fields}


def camera_info(width: int, height: int, **fields: Any) -> SimpleNamespace:
    """An object with these fields."""
    return SimpleNamespace(**info_fields(width, height, **fields))
