"""One drive: see, let the nodes work, enter what they say into a costmap, plan, move."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from street_drive.costmap import Costmap, Source, sources_of
from street_drive.graph import Graph
from street_drive.planner import command, plan
from street_drive.world import Box, Camera, Cylinder, Pose, Street

__all__ = ["RADIUS", "STREET", "WAYS", "Drive", "drive"]

FloatArray = npt.NDArray[np.float64]

RADIUS = 0.3
"""Of the robot, metres."""

STREET = Street(
    (
        Box("building", (-4.0, 24.0), (4.5, 6.0), 5.0),
        Box("building", (-4.0, 24.0), (-6.0, -4.5), 5.0),
        Cylinder("person", 3.6, 0.1, 0.25, 1.7, velocity=(0.0, -1.5), leaves_s=0.9),
        Box("car", (5.5, 8.0), (-1.9, 0.3), 1.5),
        Cylinder("pole", 8.6, 1.6, 0.08, 3.0),
        Box("wall", (11.0, 11.3), (-0.3, 2.0), 0.25),
        Cylinder("person", 13.2, -0.5, 0.25, 1.7),
    )
)
GOAL = (16.0, 0.0)
_STEP_S, _STEPS, _NEAR_M = 0.3, 90, 0.4
_START_NS = 1_000 * 10**9
_GRID_M = 4.0
"""How far cells of a grid are entered, metres: behind a thing its shadow is `other` too, growing with the distance."""


@dataclass(frozen=True)
class Way:
    """What a robot drives by.

    Attributes:
        topics: outputs of the nodes.
        sources: names of sources of config/nav2/obstacle_layer.yaml, in the order of the topics; empty = the costmap
            takes the cells of a grid.
    """

    topics: tuple[str, ...]
    sources: tuple[str, ...] = ()


WAYS = {
    "obstacles": Way(("/cloud_node/points", "/cloud_node/obstacles"), ("clears", "marks")),
    "scan": Way(("/ground_node/scan",), ("ground",)),
    "grid": Way(("/ground_node/grid",)),
}


@dataclass
class Drive:
    """What became of a drive.

    Attributes:
        end: `reached`, `touched` or `stuck`.
        way: where the robot was, and when.
        clearance: smallest distance of its hull from a thing, metres; below 0 = it touched it.
        off_road: largest distance of its hull from the road, metres; 0 = it never left it.
        costmap: what it knew at the end.
    """

    costmap: Costmap
    end: str = "stuck"
    way: list[tuple[Pose, float]] = field(default_factory=list)
    clearance: float = math.inf
    off_road: float = 0.0


def drive(
    name: str, graph: Graph, layer: Path, camera: Camera, street: Street = STREET, *, blind: bool = False
) -> Drive:
    """Drive down the street.

    Args:
        name: one of `WAYS`.
        graph: the nodes.
        layer: file with the parameters of nav2's obstacle_layer.
        camera: of the robot.
        blind: what the nodes say is not entered.
    """
    way = WAYS[name]
    parameters = yaml.safe_load(layer.read_text())["local_costmap"]["local_costmap"]["ros__parameters"]
    sources, heights = sources_of(parameters["obstacle_layer"])
    known = Costmap((-2.0, -4.4), (20.0, 8.8), heights=heights)
    done, pose, time_s = Drive(known), Pose(0.0, 0.0, 0.0), 0.0
    graph.listen(way.topics)
    for step in range(_STEPS):
        told = graph.show(_START_NS + round(time_s * 1e9), *street.see(camera, pose, time_s))
        if not blind:
            _enter(known, way, sources, told, camera, pose)
        speed, turn = command(pose, plan(known, RADIUS, pose, GOAL))
        for _ in range(5):  # finer than the camera, so that nothing is jumped over
            pose, time_s = _moved(pose, speed, turn, _STEP_S / 5), time_s + _STEP_S / 5
            _note(done, street, pose, time_s)
        time_s = (step + 1) * _STEP_S
        if done.clearance < 0 or math.dist((pose.x, pose.y), GOAL) < _NEAR_M:
            done.end = "touched" if done.clearance < 0 else "reached"
            break
    return done


def _enter(
    known: Costmap, way: Way, sources: dict[str, Source], told: dict[str, Any], camera: Camera, pose: Pose
) -> None:
    for topic, name in zip(way.topics, way.sources, strict=False):
        message, source = told[topic], sources[name]
        assert source.topic == topic, f"source {name} listens to {source.topic}"
        if source.data_type == "PointCloud2":
            known.observe(source, camera.origin(pose), _of_cloud(message, camera, pose))
        else:
            known.observe(source, np.array([pose.x, pose.y, 0.0]), _of_scan(message, source, pose))
    if not way.sources:
        known.enter(*_of_grid(told[way.topics[0]], pose))


def _of_cloud(message: Any, camera: Camera, pose: Pose) -> FloatArray:
    """From the optical frame of the camera into that of the map."""
    offsets = {entry.name: entry.offset for entry in message.fields}
    kind = np.dtype(
        {
            "names": ["x", "y", "z"],
            "formats": ["<f4"] * 3,
            "offsets": [offsets[axis] for axis in "xyz"],
            "itemsize": message.point_step,
        }
    )
    points = np.frombuffer(bytes(message.data), kind)
    return camera.origin(pose) + np.stack([points[axis] for axis in "xyz"], axis=-1).astype(float) @ camera.axes(
        pose.yaw
    )


def _of_scan(message: Any, source: Source, pose: Pose) -> FloatArray:
    ranges = np.array(message.ranges)
    if source.inf_is_valid:
        ranges[np.isposinf(ranges)] = message.range_max - 1e-4
    angles = message.angle_min + message.angle_increment * np.arange(len(ranges)) + pose.yaw
    kept = (ranges >= message.range_min) & (ranges < message.range_max)
    x, y = pose.x + ranges * np.cos(angles), pose.y + ranges * np.sin(angles)
    return np.stack([x, y, np.zeros_like(x)], axis=-1)[kept]


def _of_grid(message: Any, pose: Pose) -> tuple[FloatArray, npt.NDArray[np.int8]]:
    info = message.info
    x = info.origin.position.x + (np.arange(info.width) + 0.5) * info.resolution
    y = info.origin.position.y + (np.arange(info.height) + 0.5) * info.resolution
    x, y = (part.ravel() for part in np.meshgrid(x, y))
    cosine, sine = math.cos(pose.yaw), math.sin(pose.yaw)
    points = np.stack([pose.x + cosine * x - sine * y, pose.y + sine * x + cosine * y], axis=-1)
    near = np.hypot(x, y) <= _GRID_M
    return points[near], np.array(message.data, np.int8)[near]


def _moved(pose: Pose, speed: float, turn: float, seconds: float) -> Pose:
    yaw = pose.yaw + turn * seconds
    middle = (pose.yaw + yaw) / 2
    return Pose(pose.x + speed * seconds * math.cos(middle), pose.y + speed * seconds * math.sin(middle), yaw)


def _note(done: Drive, street: Street, pose: Pose, time_s: float) -> None:
    done.way.append((pose, time_s))
    done.clearance = min(done.clearance, street.clearance(pose, time_s) - RADIUS)
    done.off_road = max(done.off_road, abs(pose.y) + RADIUS - street.road)
