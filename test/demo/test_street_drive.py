"""The simulated street: what the camera sees is where it says, and the costmap does what nav2 documents."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from street_drive.costmap import Costmap, Source
from street_drive.planner import command, plan
from street_drive.world import Box, Camera, Cylinder, Pose, Street, class_id

POSE = Pose(1.0, 0.5, 0.3)
THINGS = Street((Box("car", (4.0, 5.0), (0.0, 2.0), 1.5), Cylinder("pole", 3.5, 2.5, 0.1, 3.0)))
ORIGIN = np.array([0.0, 0.0, 0.9])
MARKS = Source("", clearing=False, max_obstacle_height=2.0, obstacle_max_range=5.0)
CLEARS = Source("", marking=False, clearing=True, max_obstacle_height=2.0, raytrace_max_range=5.0)


def test_each_pixel_is_where_its_depth_says_and_has_the_class_of_what_is_there() -> None:
    camera = Camera()
    rgb, depth = THINGS.see(camera, POSE, 0.0)
    ids, z = rgb[..., 0].ravel() // 16, depth.ravel()
    points = camera.origin(POSE) + z[:, None] * camera.rays(POSE.yaw)
    x, y, height = points.T
    assert set(ids) == {class_id(name) for name in ("road", "sidewalk", "terrain", "sky", "car", "pole")}
    assert ((z == 0) == (ids == class_id("sky"))).all()
    road = ids == class_id("road")
    np.testing.assert_allclose(height[road], 0.0, atol=1e-4)
    assert (np.abs(y[road]) <= 2.0).all()
    car, pole = ids == class_id("car"), ids == class_id("pole")
    outside = np.maximum(np.abs(x[car] - 4.5) - 0.5, np.abs(y[car] - 1.0) - 1.0)
    np.testing.assert_allclose(np.maximum(outside, height[car] - 1.5), 0.0, atol=1e-4)
    np.testing.assert_allclose(np.hypot(x[pole] - 3.5, y[pole] - 2.5), 0.1, atol=1e-4)


def test_a_pixel_to_the_right_and_below_is_to_the_right_and_nearer() -> None:
    camera = Camera()
    rays = camera.rays(0.0).reshape(camera.height, camera.width, 3)
    assert rays[0, -1, 1] < 0 < rays[0, 0, 1]
    assert rays[-1, 0, 2] < rays[0, 0, 2]
    down = math.atan2(-rays[90, 120, 2], rays[90, 120, 0])
    assert down == pytest.approx(camera.pitch, abs=0.01)


def cells(*changes: tuple[Source, list[tuple[float, float, float]]]) -> list[float]:
    """The x of lethal cells ahead after observations of points, metres."""
    known = Costmap((-1.0, -1.0), (8.0, 2.0))
    for source, points in changes:
        known.observe(source, ORIGIN, np.array(points, float))
    return [round(x * 0.1 - 1.0, 1) for x in np.flatnonzero(known.cells.any(axis=1))]


def test_points_mark_within_the_ranges_and_heights_of_source_and_layer() -> None:
    points = [(2.05, 0.0, 0.5), (3.05, 0.0, 2.5), (4.05, 0.0, -0.1), (6.05, 0.0, 0.5), (np.nan, np.nan, np.nan)]
    assert cells((MARKS, points)) == [2.0]
    assert cells((replace(MARKS, obstacle_min_range=2.5), points)) == []
    low = replace(MARKS, min_obstacle_height=-0.5)
    assert cells((low, points)) == [2.0]  # the layer's own least height is 0


def test_points_clear_the_way_to_them_and_no_nearer_and_farther_than_they_may() -> None:
    marks = (MARKS, [(x + 0.05, 0.05, 0.5) for x in (0.5, 1.0, 2.0, 3.0)])
    assert cells(marks) == [0.5, 1.0, 2.0, 3.0]
    assert cells(marks, (CLEARS, [(2.05, 0.05, 0.0)])) == [3.0]
    assert cells(marks, (replace(CLEARS, raytrace_min_range=0.9), [(4.0, 0.05, 0.0)])) == [0.5]
    assert cells(marks, (replace(CLEARS, raytrace_max_range=1.5), [(4.0, 0.05, 0.0)])) == [2.0, 3.0]
    assert cells(marks, (CLEARS, [(4.0, 0.05, 2.5)])) == [0.5, 1.0, 2.0, 3.0]


def test_the_way_goes_round_what_is_lethal_and_ends_where_it_cannot() -> None:
    known = Costmap((-1.0, -2.0), (6.0, 4.0))
    known.cells[30, :30] = 254
    way = plan(known, 0.3, Pose(0.0, 0.0, 0.0), (4.0, 0.0))
    assert max(y for x, y in way if 1.7 < x < 2.3) > 1.2
    speed, turn = command(Pose(0.0, 0.0, 0.0), way)
    assert speed > 0 < turn
    known.cells[30] = 254
    assert plan(known, 0.3, Pose(0.0, 0.0, 0.0), (4.0, 0.0)) == []
    assert command(Pose(0.0, 0.0, 0.0), []) == (0.0, 0.0)
