"""The street: flat ground with classes, boxes and cylinders on it, and what a camera sees of them.

The red value of a pixel says its class, as the model of test/support/tiny_bundle.py reads it; the rest is texture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hrda_core.labels import CITYSCAPES19

__all__ = ["Box", "Camera", "Cylinder", "Pose", "Street", "class_id"]

FloatArray = npt.NDArray[np.float64]

_FAR = 1e9


def class_id(name: str) -> int:
    """Id of a class of Cityscapes."""
    return CITYSCAPES19.classes.index(name)


@dataclass(frozen=True)
class Pose:
    """Where a robot is and where it looks: metres and radians; x along the street, y to the left."""

    x: float
    y: float
    yaw: float


@dataclass(frozen=True)
class Box:
    """A box on the ground, `name` is its class: two corners and its height, metres."""

    name: str
    x: tuple[float, float]
    y: tuple[float, float]
    height: float

    def distance(self, x: float, y: float, time_s: float) -> float:
        """Distance of a point of the ground from it, 0 inside, metres."""
        out = (max(self.x[0] - x, 0.0, x - self.x[1]), max(self.y[0] - y, 0.0, y - self.y[1]))
        return math.hypot(*out)

    def hits(self, origin: FloatArray, rays: FloatArray, time_s: float) -> FloatArray:
        """Where rays (N, 3) meet it, in lengths of the ray; `_FAR` where they do not."""
        low, high = np.array([self.x[0], self.y[0], 0.0]), np.array([self.x[1], self.y[1], self.height])
        with np.errstate(divide="ignore", invalid="ignore"):
            one, other = (low - origin) / rays, (high - origin) / rays
        near, far = np.minimum(one, other).max(axis=1), np.maximum(one, other).min(axis=1)
        return np.where((near <= far) & (near > 0), near, _FAR)


@dataclass(frozen=True)
class Cylinder:
    """An upright cylinder on the ground, `name` is its class; it may go away at a constant velocity.

    Attributes:
        radius, height: metres.
        velocity: metres a second.
        leaves_s: when it begins to move, seconds.
    """

    name: str
    x: float
    y: float
    radius: float
    height: float
    velocity: tuple[float, float] = (0.0, 0.0)
    leaves_s: float = 0.0

    def place(self, time_s: float) -> tuple[float, float]:
        """Where it is."""
        moved = max(0.0, time_s - self.leaves_s)
        return self.x + moved * self.velocity[0], self.y + moved * self.velocity[1]

    def distance(self, x: float, y: float, time_s: float) -> float:
        """Distance of a point of the ground from it, 0 inside, metres."""
        at = self.place(time_s)
        return max(0.0, math.hypot(x - at[0], y - at[1]) - self.radius)

    def hits(self, origin: FloatArray, rays: FloatArray, time_s: float) -> FloatArray:
        """Where rays (N, 3) meet its side, in lengths of the ray; `_FAR` where they do not. Its top is not drawn."""
        x, y = origin[:2] - self.place(time_s)
        a = np.maximum(rays[:, 0] ** 2 + rays[:, 1] ** 2, 1e-12)
        b, c = rays[:, 0] * x + rays[:, 1] * y, x * x + y * y - self.radius**2
        root = b * b - a * c
        near = (-b - np.sqrt(np.maximum(root, 0.0))) / a
        height = origin[2] + near * rays[:, 2]
        return np.where((root >= 0) & (near > 0) & (height >= 0) & (height <= self.height), near, _FAR)


@dataclass(frozen=True)
class Camera:
    """A pinhole on the robot, level from left to right.

    Attributes:
        width, height: pixels.
        focal: pixels.
        above, ahead: of the ground and of the middle of the robot, metres.
        pitch: how far it looks down, radians.
    """

    width: int = 240
    height: int = 180
    focal: float = 150.0
    above: float = 0.9
    ahead: float = 0.2
    pitch: float = math.radians(15.0)

    @property
    def center(self) -> tuple[float, float]:
        """Column and row of the optical axis; the middle of the first pixel is (0, 0)."""
        return (self.width - 1) / 2, (self.height - 1) / 2

    def axes(self, yaw: float) -> FloatArray:
        """Right, down and ahead of the camera as rows, for a robot that looks to `yaw`: float64 (3, 3)."""
        cosine, sine = math.cos(self.pitch), math.sin(self.pitch)
        ahead, left = np.array([math.cos(yaw), math.sin(yaw), 0.0]), np.array([-math.sin(yaw), math.cos(yaw), 0.0])
        up = np.array([0.0, 0.0, 1.0])
        return np.stack([-left, -sine * ahead - cosine * up, cosine * ahead - sine * up])

    def origin(self, pose: Pose) -> FloatArray:
        """Where it is: float64 (3,), metres."""
        return np.array(
            [pose.x + self.ahead * math.cos(pose.yaw), pose.y + self.ahead * math.sin(pose.yaw), self.above]
        )

    def rays(self, yaw: float) -> FloatArray:
        """Directions of all pixels, row by row, with length 1 along the optical axis: float64 (N, 3)."""
        column, row = np.meshgrid(np.arange(self.width), np.arange(self.height))
        x, y = (column - self.center[0]) / self.focal, (row - self.center[1]) / self.focal
        return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3) @ self.axes(yaw)


@dataclass(frozen=True)
class Street:
    """A straight street along x.

    Attributes:
        things: what stands on it.
        road, sidewalk: half of their widths, from the middle of the road, metres; beyond is terrain.
    """

    things: tuple[Box | Cylinder, ...]
    road: float = 2.0
    sidewalk: float = 3.5
    _ids: dict[str, int] = field(default_factory=lambda: {name: class_id(name) for name in CITYSCAPES19.classes})

    def clearance(self, pose: Pose, time_s: float) -> float:
        """Distance of a robot's middle from the nearest thing, metres."""
        return min(thing.distance(pose.x, pose.y, time_s) for thing in self.things)

    def see(self, camera: Camera, pose: Pose, time_s: float) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
        """Return what a camera sees.

        Returns:
            uint8 (H, W, 3) RGB, and float32 (H, W) distance along the optical axis, metres; 0 where there is sky.
        """
        origin, rays = camera.origin(pose), camera.rays(pose.yaw)
        with np.errstate(divide="ignore"):
            nearest = np.where(rays[:, 2] < 0, -origin[2] / rays[:, 2], _FAR)
        across = np.abs(origin[1] + nearest * rays[:, 1])
        beside = np.where(across <= self.sidewalk, self._ids["sidewalk"], self._ids["terrain"])
        ids = np.where(across <= self.road, self._ids["road"], beside)
        ids[nearest >= _FAR] = self._ids["sky"]
        for thing in self.things:
            hits = thing.hits(origin, rays, time_s)
            closer = hits < nearest
            nearest[closer], ids[closer] = hits[closer], self._ids[thing.name]
        depth = np.where(nearest < _FAR, nearest, 0.0)
        points = np.floor((origin + depth[:, None] * rays) * 4 + 1e-6).astype(np.int64)
        texture = (points @ np.array([7, 13, 5])) % 16
        rgb = np.stack([16 * ids + texture, 200 + texture, 100 + 6 * texture], axis=-1).astype(np.uint8)
        size = (camera.height, camera.width)
        return rgb.reshape(*size, 3), depth.reshape(size).astype(np.float32)
