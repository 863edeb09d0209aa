"""Points with classes from a mask and depth. Needs no rclpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.errors import ImageError, shown
from hrda_core.labels import LabelSpace
from hrda_ros.space.camera_model import CameraModel

__all__ = ["POINT", "CloudMaker", "Selection", "metres"]

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

POINT = np.dtype(
    {
        "names": ["x", "y", "z", "rgb", "label", "confidence"],
        "formats": ["<f4", "<f4", "<f4", "<u4", "u1", "u1"],
        "offsets": [0, 4, 8, 12, 16, 17],
        "itemsize": 20,
    }
)
"""One point: x, y, z in metres, `rgb` as 0x00RRGGBB, class id, and confidence 0 to 255."""

_MILLIMETRE = np.float32(1e-3)

_LEAST_SEEN = 0.01
"""Share of the pixels that have a ray. A fisheye's image circle is most of its image."""

_MOST_POINTS = 16_000_000
"""Each takes 100 bytes while the rays are made."""


def metres(depth: npt.NDArray[Any]) -> FloatArray:
    """Return depth in metres.

    Args:
        depth: uint16 in millimetres or float32 in metres, in any byte order.

    Returns:
        float32 of that shape. "No depth" (0, negative, infinite or not a number) is a number that is no depth either.
    """
    if depth.dtype.kind == "u":
        return np.asarray(np.multiply(depth, _MILLIMETRE, dtype=np.float32))
    return depth.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Selection:
    """Which classes become points, and in which colours.

    Attributes:
        shown: bool (256,), ids whose points are in the cloud.
        obstacles: bool (256,), ids whose points are obstacles.
        colors: uint32 (256,), 0x00RRGGBB.
    """

    shown: npt.NDArray[np.bool_]
    obstacles: npt.NDArray[np.bool_]
    colors: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, space: LabelSpace, shown: list[str], free: list[str]) -> Selection:
        """Choose by names.

        Args:
            space: classes of the mask ids; ids without a class are neither shown nor obstacles.
            shown: classes whose points are wanted; empty = all.
            free: classes that are no obstacles. All other ones are.
        """
        table = space.color_table().astype(np.uint32)
        wanted, passable = np.zeros(256, np.bool_), np.zeros(256, np.bool_)
        for index, name in enumerate(space.classes):
            wanted[index] = not shown or name in shown
            passable[index] = name in free
        known = np.arange(256) < len(space)
        colors = (table[:, 0] << 16 | table[:, 1] << 8 | table[:, 2]).astype(np.uint32)
        return cls(wanted, known & ~passable, colors)


class CloudMaker:
    """Makes clouds for one camera.

    Args:
        camera: its model.
        stride: every `stride`-th pixel of every `stride`-th row becomes a point.
        selection: classes and colours.
        near, far: depths that count, metres.

    Attributes:
        has_depth: whether any pixel of the last frame had a depth that counts.

    Raises:
        ImageError: the cloud has too many points (cause `size`), or hardly a pixel of the camera has a ray
            (`camera_info`).
    """

    def __init__(self, camera: CameraModel, stride: int, selection: Selection, near: float, far: float) -> None:
        points = -(-camera.width // stride) * -(-camera.height // stride)
        if points > _MOST_POINTS:
            raise ImageError(
                f"a mask of {camera.width} x {camera.height} pixels makes {points} points, more than {_MOST_POINTS}; "
                f"set a larger stride, or masks_size: network on segment_node",
                "size",
            )
        rays = camera.rays(stride).astype(np.float32)
        self._rays_x, self._rays_y = np.ascontiguousarray(rays[..., 0]), np.ascontiguousarray(rays[..., 1])
        self._seen = np.isfinite(rays).all(axis=-1)
        if self._seen.mean() < _LEAST_SEEN:
            raise ImageError(
                f"only {self._seen.sum()} of {points} pixels of the camera have a ray: its distortion, "
                f"{shown(camera.coefficients)}, leads nowhere; calibrate the camera anew",
                "camera_info",
            )
        self.has_depth = False
        self._size = (camera.height, camera.width)
        self._stride = stride
        self._selection = selection
        self._near, self._far = near, far

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the cloud."""
        rows, columns = self._rays_x.shape
        return rows, columns

    def fill(
        self,
        points: npt.NDArray[np.void],
        labels: UInt8Array,
        depth: npt.NDArray[Any],
        confidence: UInt8Array | None,
    ) -> npt.NDArray[np.void]:
        """Write the cloud of a frame, and return its obstacles.

        Args:
            points: `POINT` array of `shape`, written in place. A point keeps the place of its pixel; where there is no
                depth in range or the class is not shown, x, y and z are NaN.
            labels: uint8 (height, width), class ids.
            depth: uint16 in millimetres or float32 in metres, (height, width), aligned with the mask.
            confidence: uint8 (height, width), or None, which is written as 0.

        Returns:
            `POINT` (N,): the points of the obstacles with a depth in range, row by row.

        Raises:
            ImageError: the depth or the confidence has another size than the mask; cause `size`.
        """
        for name, other in (("mask", labels), ("depth", depth), ("confidence", confidence)):
            if other is not None and other.shape != self._size:
                raise ImageError(
                    f"the {name} has {other.shape[1]} x {other.shape[0]} pixels, but the camera {self._size[1]} x "
                    f"{self._size[0]}; depth must be aligned with the image that is segmented",
                    "size",
                )
        every = (slice(None, None, self._stride),) * 2
        ids, z = labels[every], metres(depth[every])
        with np.errstate(invalid="ignore"):
            valid = self._seen & (z > 0) & (z >= self._near) & (z <= self._far)
        self.has_depth = bool(valid.any())
        z[~valid] = np.nan
        points["z"] = z
        np.multiply(z, self._rays_x, out=points["x"])
        np.multiply(z, self._rays_y, out=points["y"])
        points["rgb"] = np.take(self._selection.colors, ids)
        points["label"] = ids
        points["confidence"] = 0 if confidence is None else confidence[every]
        # numpy copies the records field by field, eight times slower, unless they are bytes without a meaning.
        opaque = points.view(f"V{POINT.itemsize}")
        obstacles = opaque[np.take(self._selection.obstacles, ids) & valid].view(POINT)
        hidden = ~np.take(self._selection.shown, ids)
        for axis in ("x", "y", "z"):
            points[axis][hidden] = np.nan
        return obstacles
