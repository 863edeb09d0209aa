"""Where a camera is above flat ground, and how it looks. Needs no rclpy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hrda_core.errors import ImageError

__all__ = ["LOWEST_M", "CameraPose"]

FloatArray = npt.NDArray[np.float64]
Triple: TypeAlias = "tuple[float, float, float]"

# A camera that looks along x of the robot: its x is to the right, its y down, its z ahead (REP 103).
_AHEAD = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])

_SAME_PLACE_M, _SAME_AXIS = 5e-3, 1e-3

_FARTHEST_M = 1000.0

LOWEST_M = 0.01
"""A camera that is less above the ground is not: the height of a frame on its own plane is 1e-17 by its rotations."""


@dataclass(frozen=True)
class CameraPose:
    """Pose of a camera's optical frame in a frame of the robot whose plane z = 0 is the ground.

    Attributes:
        position: of the camera, metres; x ahead, y to the left, z above the ground.
        axes: the optical x (right), y (down) and z (ahead) axis of the camera in the robot's frame.
    """

    position: Triple
    axes: tuple[Triple, Triple, Triple]

    @classmethod
    def of_mount(cls, height: float, pitch: float, ahead: float = 0.0) -> CameraPose:
        """Return the pose of a camera that looks ahead and is level from left to right.

        Args:
            height: above the ground, metres.
            pitch: how far it looks down, radians; 0 = to the horizon.
            ahead: how far it is ahead of the frame's origin, metres.
        """
        cosine, sine = math.cos(pitch), math.sin(pitch)
        down = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
        return cls._of((ahead, 0.0, height), down @ _AHEAD)

    @classmethod
    def of_transform(cls, transform: Any) -> CameraPose:
        """Read a `geometry_msgs/Transform` from the optical frame to the robot's frame.

        Raises:
            ImageError: the rotation or the shift is none, or the camera is not above the ground; cause `pose`.
        """
        rotation, shift = transform.rotation, transform.translation
        quaternion = np.array([rotation.w, rotation.x, rotation.y, rotation.z], np.float64)
        length = float(np.linalg.norm(quaternion))
        if not 0.5 < length < 2.0:
            raise ImageError(f"the transform of the camera has a quaternion of length {length:g}, not 1", "pose")
        w, x, y, z = quaternion / length
        matrix = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        position = (float(shift.x), float(shift.y), float(shift.z))
        if not all(abs(part) < _FARTHEST_M for part in position):  # a NaN is not, either
            raise ImageError(
                f"the transform of the camera shifts it by {position} m; a camera of the robot is within "
                f"{_FARTHEST_M:g} m of it, so look at who sends this transform",
                "pose",
            )
        if position[2] < LOWEST_M:
            raise ImageError(
                f"the camera is {position[2]:g} m above the origin of the robot's frame; that frame must lie on the "
                f"ground, as base_footprint does",
                "pose",
            )
        return cls._of(position, matrix)

    @classmethod
    def _of(cls, position: Triple, matrix: FloatArray) -> CameraPose:
        x, y, z = ((float(a), float(b), float(c)) for a, b, c in matrix.T)
        return cls(position, (x, y, z))

    def is_near(self, other: CameraPose) -> bool:
        """Whether no coordinate of the position differs by more than 5 mm and no axis by more than 1 mrad.

        For a camera 1.2 m above the ground that is one cell of 0.1 m in 10 m.
        """
        return bool(
            np.allclose(self.position, other.position, rtol=0, atol=_SAME_PLACE_M)
            and np.allclose(self.axes, other.axes, rtol=0, atol=_SAME_AXIS)
        )

    def directions(self, rays: FloatArray) -> FloatArray:
        """Turn rays of the camera, float64 (N, 2) at depth 1, into directions of the robot's frame, (N, 3)."""
        right, down, ahead = np.array(self.axes)
        return np.asarray(rays[:, :1] * right + rays[:, 1:] * down + ahead)

    def rays(self, points: FloatArray) -> FloatArray:
        """Return the rays that lead to points.

        Args:
            points: float64 (N, 3) in the robot's frame.

        Returns:
            float64 (N, 2), x and y at depth 1; NaN for points that are not in front of the camera.
        """
        inside = (points - self.position) @ np.array(self.axes).T
        depth = np.where(inside[:, 2] > 0, inside[:, 2], np.nan)
        return np.asarray(inside[:, :2] / depth[:, None])
