"""What nav2's obstacle_layer does with points and scans, by its documented parameters; written anew, not nav2 itself.

For each message: points outside the heights of its source are dropped; a source that clears frees the cells on the line
from the sensor to each point, from `raytrace_min_range` up to `raytrace_max_range`; then a source that marks makes the
cells of points between `obstacle_min_range` and `obstacle_max_range` lethal, within the heights of the layer. With
`inf_is_valid` an infinite beam is a point at the longest range of its scan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Costmap", "Source", "sources_of"]

FloatArray = npt.NDArray[np.float64]

FREE, LETHAL = 0, 254


@dataclass(frozen=True)
class Source:
    """A source of observations, with the names and defaults that nav2 documents."""

    topic: str
    data_type: str = "LaserScan"
    marking: bool = True
    clearing: bool = False
    inf_is_valid: bool = False
    min_obstacle_height: float = 0.0
    max_obstacle_height: float = 0.0
    obstacle_min_range: float = 0.0
    obstacle_max_range: float = 2.5
    raytrace_min_range: float = 0.0
    raytrace_max_range: float = 3.0


def sources_of(parameters: Mapping[str, Any]) -> tuple[dict[str, Source], tuple[float, float]]:
    """Read the parameters of an obstacle_layer: its sources by name, and the heights of the layer."""
    names = parameters["observation_sources"].split()
    known = {each.name for each in fields(Source)}
    sources = {
        name: Source(**{key: value for key, value in parameters[name].items() if key in known}) for name in names
    }
    return sources, (parameters.get("min_obstacle_height", 0.0), parameters.get("max_obstacle_height", 2.0))


class Costmap:
    """A costmap that stays in place.

    Args:
        corner: smallest x and y, metres.
        size: along x and y, metres.
        side: of a cell, metres.
        heights: of the layer: points outside of them mark nothing, metres.

    Attributes:
        cells: uint8 (along x, along y), `FREE` or `LETHAL`.
    """

    def __init__(
        self,
        corner: tuple[float, float],
        size: tuple[float, float],
        side: float = 0.1,
        heights: tuple[float, float] = (0.0, 2.0),
    ) -> None:
        self.corner, self.side, self._heights = np.array(corner), side, heights
        self.cells = np.zeros((round(size[0] / side), round(size[1] / side)), np.uint8)

    def place(self, points: FloatArray) -> npt.NDArray[np.int64]:
        """Cells of points (N, 2 or more), int64 (N, 2); they may lie outside."""
        return np.floor((points[:, :2] - self.corner) / self.side).astype(np.int64)

    def inside(self, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which cells (N, 2) are in the map."""
        return np.asarray(((cells >= 0) & (cells < self.cells.shape)).all(axis=1))

    def observe(self, source: Source, origin: FloatArray, points: FloatArray) -> None:
        """Take the points of a message.

        Args:
            source: where they come from.
            origin: of the sensor, float64 (3,), metres in the frame of the map.
            points: float64 (N, 3), in that frame; NaN = none.
        """
        height = points[:, 2]
        with np.errstate(invalid="ignore"):
            kept = points[(height >= source.min_obstacle_height) & (height <= source.max_obstacle_height)]
        if source.clearing:
            self._clear(source, origin, kept)
        if source.marking:
            self._mark(source, origin, kept)

    def enter(self, points: FloatArray, values: npt.NDArray[np.int8]) -> None:
        """Take cells of an OccupancyGrid, whose middles (N, 2) are given in the frame of the map; the newest counts."""
        cells = self.place(points)
        known = self.inside(cells) & (values >= 0)
        for value, cost in ((0, FREE), (100, LETHAL)):
            x, y = cells[known & (values == value)].T
            self.cells[x, y] = cost

    def _clear(self, source: Source, origin: FloatArray, points: FloatArray) -> None:
        away = points[:, :2] - origin[:2]
        length = np.hypot(*away.T)
        ends = origin[:2] + away * np.minimum(1.0, source.raytrace_max_range / np.maximum(length, 1e-9))[:, None]
        ends = np.unique(self.place(ends), axis=0)  # most points share a cell with others
        line = self.corner + (ends + 0.5) * self.side - origin[:2]
        length = np.hypot(*line.T)
        for step in np.arange(source.raytrace_min_range, source.raytrace_max_range + self.side, 0.7 * self.side):
            on = line[length >= step] * (step / length[length >= step])[:, None]
            self._set(origin[:2] + on, FREE)
        self._set(origin[:2] + line[length >= source.raytrace_min_range], FREE)

    def _mark(self, source: Source, origin: FloatArray, points: FloatArray) -> None:
        away = np.linalg.norm(points - origin, axis=1)
        near = (away >= source.obstacle_min_range) & (away < source.obstacle_max_range)
        high = (points[:, 2] >= self._heights[0]) & (points[:, 2] <= self._heights[1])
        self._set(points[near & high], LETHAL)

    def _set(self, points: FloatArray, cost: int) -> None:
        cells = self.place(points)
        x, y = cells[self.inside(cells)].T
        self.cells[x, y] = cost
