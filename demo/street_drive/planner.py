"""The cheapest way through a costmap and the command that follows it, in place of nav2's planner and controller."""

from __future__ import annotations

import heapq
import math

import cv2
import numpy as np
import numpy.typing as npt

from street_drive.costmap import LETHAL, Costmap
from street_drive.world import Pose

__all__ = ["command", "plan"]

FloatArray = npt.NDArray[np.float64]

_COARSE = 2
"""Cells of the costmap along a side of one of the plan's."""
_KEPT, _SOFT = 0.15, 0.6
"""Distance that the robot keeps from lethal cells, and up to which more is better, metres."""
_TOLERANCE_M = 1.0
"""How far from the goal a way may end where the goal cannot be reached, metres."""
_LOOK_AHEAD_M, _SPEED, _TURN = 0.7, 1.0, 1.2


def plan(costmap: Costmap, radius: float, start: Pose, goal: tuple[float, float]) -> list[tuple[float, float]]:
    """Return points of the cheapest way, from the robot to the goal; empty where there is none.

    Args:
        costmap: what is known.
        radius: of the robot, metres.
        start: where it is.
        goal: metres.
    """
    costs, side = _costs(costmap, radius), costmap.side * _COARSE
    first, last = (_cell(place, costmap, side) for place in ((start.x, start.y), goal))
    if not math.isfinite(costs[last]):  # as with `tolerance` of nav2's planner
        free = [
            cell for cell in np.argwhere(np.isfinite(costs)).tolist() if math.dist(cell, last) * side <= _TOLERANCE_M
        ]
        last = min(((x, y) for x, y in free), key=lambda cell: math.dist(cell, last), default=last)
    steps = [(dx, dy, math.hypot(dx, dy)) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy]
    paid, before = {first: 0.0}, {first: first}
    queue = [(0.0, first)]
    while queue:
        _, here = heapq.heappop(queue)
        if here == last:
            break
        for dx, dy, length in steps:
            there = (here[0] + dx, here[1] + dy)
            if not (0 <= there[0] < costs.shape[0] and 0 <= there[1] < costs.shape[1]):
                continue
            cost = paid[here] + length * float(costs[there])
            if cost < paid.get(there, math.inf):
                paid[there], before[there] = cost, here
                heapq.heappush(queue, (cost + math.dist(there, last), there))
    if not math.isfinite(paid.get(last, math.inf)):
        return []
    way = [last]
    while way[-1] != first:
        way.append(before[way[-1]])
    return [(float(x), float(y)) for x, y in costmap.corner + (np.array(way[::-1]) + 0.5) * side]


def _cell(place: tuple[float, float], costmap: Costmap, side: float) -> tuple[int, int]:
    x, y = np.floor((np.array(place) - costmap.corner) / side + 1e-9).astype(int)
    return int(x), int(y)


def _costs(costmap: Costmap, radius: float) -> FloatArray:
    """Cost of a metre in each coarse cell: 1 far from everything, infinite where the robot would touch something."""
    free = (costmap.cells < LETHAL).astype(np.uint8)
    away = cv2.distanceTransform(free, cv2.DIST_L2, 5) * costmap.side - radius
    rows, columns = (length // _COARSE for length in away.shape)
    away = away[: rows * _COARSE, : columns * _COARSE].reshape(rows, _COARSE, columns, _COARSE).min(axis=(1, 3))
    costs = 1.0 + 4.0 * np.clip((_SOFT - away) / (_SOFT - _KEPT), 0.0, 1.0)
    costs[away < _KEPT] = 60.0  # so near only to get away from there
    costs[away < 0.0] = np.inf
    return np.asarray(costs, np.float64)


def command(pose: Pose, way: list[tuple[float, float]]) -> tuple[float, float]:
    """Return speed (m/s) and turn (rad/s) towards a point of the way a little ahead; without a way, stop."""
    ahead = next((p for p in way if math.dist(p, (pose.x, pose.y)) >= _LOOK_AHEAD_M), way[-1] if way else None)
    if ahead is None:
        return 0.0, 0.0
    off = math.atan2(ahead[1] - pose.y, ahead[0] - pose.x) - pose.yaw
    off = math.atan2(math.sin(off), math.cos(off))
    return _SPEED * max(0.0, math.cos(off)) ** 2, max(-_TURN, min(_TURN, 2.0 * off))
