"""The ground ahead from a mask alone: the ground is taken to be flat, and every pixel to lie on it. Needs no rclpy.

A pixel below the horizon then has a place. What stands on the ground is where it touches it; its upper part falls on
the ground behind it, as its shadow would if the camera were a lamp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hrda_core.errors import ImageError
from hrda_core.labels import LabelSpace
from hrda_ros.space.camera_model import CameraModel
from hrda_ros.space.pose import CameraPose

__all__ = ["DRIVABLE", "OTHER", "UNKNOWN", "GroundView", "Layout", "ground_kinds", "ground_points"]

FloatArray = npt.NDArray[np.float64]
Int8Array = npt.NDArray[np.int8]

_MOST_CELLS = 1_000_000
"""Each is looked up in the image when the view is made: 300 bytes and some microseconds."""

_MOST_PIXELS = 16_000_000

UNKNOWN, DRIVABLE, OTHER = -1, 0, 100
"""Values of a cell, as `nav_msgs/OccupancyGrid` has them."""


def ground_kinds(space: LabelSpace, drivable: list[str]) -> Int8Array:
    """Return what the ground is where a class is seen: int8 (256,); ids without a class are `UNKNOWN`."""
    kinds = np.full(256, UNKNOWN, np.int8)
    for index, name in enumerate(space.classes):
        kinds[index] = DRIVABLE if name in drivable else OTHER
    return kinds


def ground_points(rays: FloatArray, pose: CameraPose) -> FloatArray:
    """Return where rays meet the ground.

    Args:
        rays: float64 (N, 2), x and y at depth 1.
        pose: of the camera.

    Returns:
        float64 (N, 2), metres in the robot's frame; NaN for rays that do not go down.
    """
    directions = pose.directions(rays)
    falls = directions[:, 2] < -1e-9
    steps = np.where(falls, pose.position[2] / np.where(falls, -directions[:, 2], 1.0), np.nan)
    return np.array(pose.position[:2]) + steps[:, None] * directions[:, :2]


@dataclass(frozen=True)
class Layout:
    """Size and fineness of what is made of a mask.

    Attributes:
        range_m: farthest ground that counts, from the point below the camera, metres.
        resolution_m: side of a cell, metres.
        beams: beams of the full circle.
    """

    range_m: float
    resolution_m: float
    beams: int


class GroundView:
    """What one camera sees of the ground. Making it is slow and using it is quick: keep it while nothing moves.

    Args:
        camera: its model.
        pose: where it is.
        layout: of the outputs.

    Attributes:
        origin: corner of the grid with the smallest x and y, metres in the robot's frame.
        shape: rows (y) and columns (x) of the grid, which is the box around the ground that can be seen.

    Raises:
        ImageError: no ground can be seen within the range (cause `pose`), the grid has too many cells (`grid`) or the
            image too many pixels (`size`).
    """

    def __init__(self, camera: CameraModel, pose: CameraPose, layout: Layout) -> None:
        self._layout = layout
        self._size = (camera.height, camera.width)
        if camera.height * camera.width > _MOST_PIXELS:
            raise ImageError(
                f"the mask has {camera.width} x {camera.height} pixels, more than {_MOST_PIXELS}; set "
                f"masks_size: network on segment_node",
                "size",
            )
        rays = camera.rays().reshape(-1, 2)
        points = ground_points(rays, pose)
        away = np.hypot(*(points - pose.position[:2]).T)
        seen = np.flatnonzero(away <= layout.range_m)
        if not len(seen):
            raise ImageError(
                f"the camera sees no ground within {layout.range_m:g} m from {pose.position[2]:g} m above it: is its "
                f"pitch right (positive = down)?",
                "pose",
            )
        # A strip is the ground in one direction from below the camera: the foot of a thing, and then its shadow.
        # Columns of the image are strips only where the camera is level and does not look down far.
        strip = self._nearest_beam(points[seen] - pose.position[:2])
        # Strip after strip, and the near before the far.
        order = np.lexsort((away[seen], strip))
        self._pixels, self._strip = seen[order], strip[order]
        self._end = np.searchsorted(self._strip, np.arange(layout.beams), side="right")
        # Beside the field of view only the near ground of a direction is seen, and says nothing of the far one.
        self._is_whole = np.bincount(self._strip[_is_last(self._pixels, camera, pose)], minlength=layout.beams) > 0
        self._set_up_grid(camera, pose, points[self._pixels])
        self._set_up_beams(rays[self._pixels], _half_pixel(camera, pose), pose, points[self._pixels])

    def _set_up_grid(self, camera: CameraModel, pose: CameraPose, points: FloatArray) -> None:
        side = self._layout.resolution_m
        first = np.floor(points.min(axis=0) / side).astype(np.intp)
        columns, rows = np.floor(points.max(axis=0) / side).astype(np.intp) - first + 1
        if int(columns) * int(rows) > _MOST_CELLS:
            raise ImageError(
                f"a grid of {rows} x {columns} cells has more than {_MOST_CELLS}; set a smaller range_m or a larger "
                f"resolution_m",
                "grid",
            )
        self.origin = (float(first[0] * side), float(first[1] * side))
        self.shape = (int(rows), int(columns))
        place = np.floor(points / side).astype(np.intp) - first
        self._cell = place[:, 1] * columns + place[:, 0]
        x, y = np.meshgrid((first[0] + np.arange(columns) + 0.5) * side, (first[1] + np.arange(rows) + 0.5) * side)
        centers = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=-1)
        near = np.hypot(*(centers[:, :2] - pose.position[:2]).T) <= self._layout.range_m
        rays = pose.rays(centers)
        near &= np.isfinite(rays).all(axis=1)
        candidates = np.flatnonzero(near)
        pixels = camera.pixels(rays[candidates])
        inside = np.isfinite(pixels).all(axis=1)
        column, row = np.rint(pixels[inside]).astype(np.intp).T
        self._centered_cell, self._center_pixel = candidates[inside], row * camera.width + column

    def _set_up_beams(self, rays: FloatArray, half: FloatArray, pose: CameraPose, points: FloatArray) -> None:
        """Each pixel belongs to the beams between its right and its left border; images may have fewer columns."""
        self._distance = np.hypot(*points.T).astype(np.float32)
        borders = (ground_points(rays + side, pose) for side in (half, -half))
        right, left = (self._nearest_beam(np.where(np.isfinite(border), border, points)) for border in borders)
        turn = (left - right) % self._layout.beams
        back = turn > self._layout.beams // 2  # of ground behind the origin the left border has the smaller angle
        self._beam = np.where(back, left, right)
        self._further_beams = np.where(back, self._layout.beams - turn, turn)

    def _nearest_beam(self, points: FloatArray) -> npt.NDArray[np.intp]:
        x, y = points.T
        beams: npt.NDArray[np.intp] = np.rint((np.arctan2(y, x) + math.pi) / self.beam_step).astype(np.intp)
        return beams % self._layout.beams

    @property
    def beam_step(self) -> float:
        """Angle between two beams, radians. The first one looks back, and they go round to the left."""
        return 2 * math.pi / self._layout.beams

    @property
    def farthest(self) -> float:
        """Distance of the farthest ground that counts, from the origin of the robot's frame, metres."""
        return float(self._distance.max())

    def look(self, labels: npt.NDArray[np.uint8], kinds: Int8Array) -> tuple[Int8Array, npt.NDArray[np.float32]]:
        """Return the grid and the ranges of a mask.

        Args:
            labels: uint8 (height, width), class ids.
            kinds: result of `ground_kinds`.

        Returns:
            int8 `shape`: `OTHER` where any pixel of the cell is, else what is seen at the middle of the cell;
            float32 (beams,): distance of the nearest `OTHER` from the origin of the robot's frame, infinite where the
            ground is drivable as far as it counts, NaN where that is not known.

        Raises:
            ImageError: the mask has another size than the camera; cause `size`.
        """
        if labels.shape != self._size:
            raise ImageError(f"the mask has shape {labels.shape}, but the camera {self._size}", "size")
        flat = np.ascontiguousarray(labels).reshape(-1)
        seen = np.take(kinds, np.take(flat, self._pixels))
        others = np.flatnonzero(seen == OTHER)
        return self._grid(flat, kinds, others), self._ranges(seen, others)

    def _grid(self, flat: npt.NDArray[np.uint8], kinds: Int8Array, others: npt.NDArray[np.intp]) -> Int8Array:
        grid = np.full(self.shape[0] * self.shape[1], UNKNOWN, np.int8)
        grid[self._centered_cell] = np.take(kinds, np.take(flat, self._center_pixel))
        grid[self._cell[others]] = OTHER
        return grid.reshape(self.shape)

    def _ranges(self, seen: Int8Array, others: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        ranges = np.full(self._layout.beams, np.nan, np.float32)
        drivable = np.flatnonzero(seen == DRIVABLE)
        nearest = self._first_of_each_strip(drivable)
        strip = self._strip[nearest]
        # Free is a strip that is drivable from its first such pixel on; before that may be the robot itself.
        count = np.bincount(self._strip[drivable], minlength=len(self._end))[strip]
        free = (nearest + count == self._end[strip]) & self._is_whole[strip]
        farthest = self._end[strip[free]] - 1
        self._enter(ranges, farthest, np.full(len(farthest), np.inf, np.float32))
        hits = self._first_of_each_strip(others)
        self._enter(ranges, hits, self._distance[hits])
        return ranges

    def _enter(
        self, ranges: npt.NDArray[np.float32], places: npt.NDArray[np.intp], distances: npt.NDArray[np.float32]
    ) -> None:
        """Enter distances into the beams of pixels; the nearest one stays, and NaN gives way."""
        first, further = self._beam[places], self._further_beams[places]
        for step in range(int(further.max(initial=0)) + 1):
            np.fmin.at(ranges, (first + np.minimum(step, further)) % self._layout.beams, distances)

    def _first_of_each_strip(self, places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Of ascending places in the order of strips, the first of each strip."""
        return places[np.flatnonzero(np.diff(self._strip[places], prepend=-1))]


def _half_pixel(camera: CameraModel, pose: CameraPose) -> FloatArray:
    """Return half a pixel to the right, as a level observer sees it and whichever way up the camera is, in tangents."""
    up_x, up_y = _up(pose)
    return 0.5 * np.array([-up_y, up_x]) / camera.focal


def _is_last(pixels: npt.NDArray[np.intp], camera: CameraModel, pose: CameraPose) -> npt.NDArray[np.bool_]:
    """Return whether the next pixel upwards is none of the pixels, each given by its place in the flat image."""
    given = np.zeros((camera.height + 2, camera.width + 2), np.bool_)
    row, column = np.divmod(pixels, camera.width)
    given[row + 1, column + 1] = True
    step_x, step_y = (round(part / max(map(abs, _up(pose)))) for part in _up(pose))
    last: npt.NDArray[np.bool_] = ~given[row + 1 + step_y, column + 1 + step_x]
    return last


def _up(pose: CameraPose) -> tuple[float, float]:
    """Return what is up in the image, x and y, of length 1; the top of the image where a camera looks straight down."""
    (_, _, right), (_, _, down), _ = pose.axes
    length = math.hypot(right, down)
    return (right / length, down / length) if length > 1e-6 else (0.0, -1.0)
