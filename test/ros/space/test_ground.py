"""The ground ahead, on masks that are rendered from a plane by formulas of their own."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from space_messages import camera_info

from hrda_core.errors import ImageError
from hrda_core.labels import CITYSCAPES19
from hrda_ros.space.camera_model import CameraModel
from hrda_ros.space.ground import DRIVABLE, OTHER, UNKNOWN, GroundView, Layout, ground_kinds, ground_points
from hrda_ros.space.pose import CameraPose

WIDTH, HEIGHT, FOCAL = 320, 240, 250.0
ROAD, WALL, SKY, NONE = 0, 3, 10, 255
KINDS = ground_kinds(CITYSCAPES19, ["road"])
MOUNT, PITCH, AHEAD = 1.2, math.radians(12), 0.4
LAYOUT = Layout(range_m=8.0, resolution_m=0.1, beams=720)

World = Callable[[float, float], bool]
"""Whether the ground at x, y (robot's frame, metres) is drivable."""


def camera(**fields: Any) -> CameraModel:
    return CameraModel.from_info(camera_info(WIDTH, HEIGHT, focal=FOCAL, **fields), WIDTH, HEIGHT)


def meet(ray_x: float, ray_y: float, height: float = MOUNT, pitch: float = PITCH) -> tuple[float, float] | None:
    """Where a ray meets the ground, by plane trigonometry; None above the horizon."""
    down = math.sin(pitch) + ray_y * math.cos(pitch)
    if down <= 1e-9:
        return None
    return AHEAD + height * (math.cos(pitch) - ray_y * math.sin(pitch)) / down, -height * ray_x / down


def rendered(world: World, model: CameraModel) -> np.ndarray:
    labels = np.full((HEIGHT, WIDTH), SKY, np.uint8)
    rays = model.rays()
    for row, column in np.ndindex(HEIGHT, WIDTH):
        place = meet(*rays[row, column])
        if place is not None:
            labels[row, column] = ROAD if world(*place) else WALL
    return labels


def footprint(x: float, y: float) -> float:
    """Size on the ground of a pixel that shows x, y; the longer side, metres."""
    away = math.hypot(x - AHEAD, y)
    return (away**2 + MOUNT**2) / (MOUNT * FOCAL) * 1.5


@pytest.fixture(scope="module")
def view() -> GroundView:
    return GroundView(camera(), CameraPose.of_mount(MOUNT, PITCH, AHEAD), LAYOUT)


def lane_with_a_box(x: float, y: float) -> bool:
    return -1.3 < y < 1.7 and not (4.0 < x < 4.8 and y > 0.35)


def test_rays_meet_the_ground_where_plane_trigonometry_says() -> None:
    rays = camera().rays().reshape(-1, 2)
    points = ground_points(rays, CameraPose.of_mount(MOUNT, PITCH, AHEAD))
    for ray, point in zip(rays[::37], points[::37], strict=True):
        place = meet(*ray)
        assert np.isnan(point).all() if place is None else point == pytest.approx(place, rel=1e-9)
    assert np.isnan(points).any()


def test_a_camera_that_looks_straight_ahead_sees_its_own_height_at_45_degrees() -> None:
    (point,) = ground_points(np.array([[0.5, 1.0]]), CameraPose.of_mount(2.0, 0.0))
    assert point.tolist() == [2.0, -1.0]


@pytest.mark.parametrize("pitch", [0.0, PITCH, -0.1])
def test_the_pose_from_tf_is_that_of_the_mount(pitch: float) -> None:
    # The optical frame of a camera that looks ahead, turned about the robot's y axis.
    half = pitch / 2
    x, y, z, w = -0.5, 0.5, -0.5, 0.5
    turned = {
        "x": math.cos(half) * x + math.sin(half) * z,
        "y": math.cos(half) * y + math.sin(half) * w,
        "z": math.cos(half) * z - math.sin(half) * x,
        "w": math.cos(half) * w - math.sin(half) * y,
    }
    transform = SimpleNamespace(
        rotation=SimpleNamespace(**turned), translation=SimpleNamespace(x=AHEAD, y=0.0, z=MOUNT)
    )
    pose, expected = CameraPose.of_transform(transform), CameraPose.of_mount(MOUNT, pitch, AHEAD)
    assert pose.position == expected.position
    np.testing.assert_allclose(pose.axes, expected.axes, atol=1e-12)


@pytest.mark.parametrize(
    ("rotation", "height", "sentence"),
    [
        ((0, 0, 0, 0), 1.0, "quaternion of length 0"),
        ((0, 0, math.nan, 1), 1.0, "quaternion of length nan"),
        ((0, 0, 0, 1), 0.0, "must lie on the ground"),
        ((0, 0, 0, 1), 1e-17, "must lie on the ground"),
        ((0, 0, 0, 1), math.nan, r"shifts it by \(0\.0, 0\.0, nan\) m"),
        ((0, 0, 0, 1), 1e300, r"is within 1000 m of it"),
    ],
)
def test_a_transform_without_rotation_or_height_is_refused(rotation: Any, height: float, sentence: str) -> None:
    transform = SimpleNamespace(
        rotation=SimpleNamespace(**dict(zip("xyzw", rotation, strict=True))),
        translation=SimpleNamespace(x=0.0, y=0.0, z=height),
    )
    with pytest.raises(ImageError, match=sentence):
        CameraPose.of_transform(transform)


@pytest.mark.parametrize("distortion", [{}, {"d": [-0.2, 0.05, 0.0, 0.0, 0.0]}], ids=["pinhole", "distorted"])
def test_every_cell_says_what_the_plane_has_there(distortion: dict[str, Any]) -> None:
    model, pose = camera(**distortion), CameraPose.of_mount(MOUNT, PITCH, AHEAD)
    view = GroundView(model, pose, Layout(LAYOUT.range_m, 0.15, LAYOUT.beams))
    grid, _ = view.look(rendered(lane_with_a_box, model), KINDS)
    side, seen = 0.15, {DRIVABLE: 0, OTHER: 0, UNKNOWN: 0}
    for (row, column), value in np.ndenumerate(grid):
        x, y = view.origin[0] + (column + 0.5) * side, view.origin[1] + (row + 0.5) * side
        reach = side / 2 + footprint(x, y)
        around = [(x + a * reach, y + b * reach) for a in (-1, -0.5, 0, 0.5, 1) for b in (-1, -0.5, 0, 0.5, 1)]
        kinds = {lane_with_a_box(*place) for place in around}
        if value == UNKNOWN:
            ray = pose.rays(np.array([[x, y, 0.0]]))
            outside = math.hypot(x - AHEAD, y) > LAYOUT.range_m or not np.isfinite(model.pixels(ray)).all()
            assert outside, (x, y)
        elif len(kinds) == 1:
            assert value == (DRIVABLE if kinds == {True} else OTHER), (x, y)
        seen[int(value)] += 1
    assert min(seen.values()) > 150, seen


def test_the_grid_is_the_box_around_what_is_seen_and_lies_on_whole_cells(view: GroundView) -> None:
    nearest = meet(0.0, (HEIGHT - 1) / 2 / FOCAL)
    assert nearest is not None
    assert view.origin[0] == pytest.approx(math.floor(nearest[0] / 0.1) * 0.1)
    assert view.origin[0] + view.shape[1] * 0.1 == pytest.approx(AHEAD + LAYOUT.range_m, abs=0.2)
    assert [math.remainder(value, 0.1) for value in view.origin] == pytest.approx([0, 0], abs=1e-9)


def test_one_pixel_of_something_marks_its_cell(view: GroundView) -> None:
    labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    labels[HEIGHT - 30, 100] = WALL
    place = meet(*camera().rays()[HEIGHT - 30, 100])
    assert place is not None
    grid, _ = view.look(labels, KINDS)
    row, column = (
        math.floor((value - start) / 0.1) for value, start in zip(place[::-1], view.origin[::-1], strict=True)
    )
    assert grid[row, column] == OTHER
    assert (grid == OTHER).sum() == 1


def beam_angles(view: GroundView, ranges: np.ndarray) -> np.ndarray:
    return -math.pi + np.arange(len(ranges)) * view.beam_step


def test_the_scan_finds_a_kerb_across_the_road_at_its_distance(view: GroundView) -> None:
    _, ranges = view.look(rendered(lambda x, y: x < 5.0, camera()), KINDS)
    angles = beam_angles(view, ranges)
    hits = np.isfinite(ranges)
    assert hits.sum() > 100
    for angle, distance in zip(angles[hits], ranges[hits], strict=True):
        blur = distance * (view.beam_step + 1 / FOCAL) / 2  # of the angle
        assert 5.0 - blur <= distance * math.cos(angle) <= 5.0 + footprint(5.0, 5.0 * math.tan(angle)) + blur


def test_each_beam_has_the_nearest_of_its_columns(view: GroundView) -> None:
    _, ranges = view.look(rendered(lane_with_a_box, camera()), KINDS)
    angles = beam_angles(view, ranges)
    # Left ahead is the box, right of it the lane is free as far as it counts.
    box = int(np.argmin(np.abs(angles - math.atan2(0.6, 4.0))))
    assert ranges[box] == pytest.approx(math.hypot(4.0, 0.6), abs=footprint(4.0, 0.6) + 0.02)
    ahead = int(np.argmin(np.abs(angles)))
    assert np.isinf(ranges[ahead])


def test_of_two_columns_of_a_beam_the_nearer_obstacle_counts() -> None:
    view = GroundView(camera(), CameraPose.of_mount(MOUNT, PITCH, AHEAD), Layout(8.0, 0.1, beams=36))
    near = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    near[200] = WALL
    both = near.copy()
    both[200, ::2], both[160, ::2] = ROAD, WALL
    expected, ranges = view.look(near, KINDS)[1], view.look(both, KINDS)[1]
    hit = np.isfinite(expected)
    assert hit.sum() > 3
    np.testing.assert_allclose(ranges[hit], expected[hit], rtol=0.02)


def test_of_two_obstacles_that_the_robot_sees_in_one_direction_and_its_camera_in_two_the_nearer_counts() -> None:
    """The camera is ahead of the origin of the robot's frame, so that neither stands in the other's shadow."""
    pose = CameraPose.of_mount(MOUNT, PITCH, AHEAD)
    view = GroundView(camera(), pose, LAYOUT)
    x, y = np.moveaxis(ground_points(camera().rays().reshape(-1, 2), pose).reshape(HEIGHT, WIDTH, 2), -1, 0)
    near = (200, WIDTH // 8)
    far = (160, int(np.abs(np.arctan2(y, x)[160] - np.arctan2(y, x)[near]).argmin()))
    from_camera = np.arctan2(y, x - AHEAD)
    assert abs(from_camera[near] - from_camera[far]) > 2 * view.beam_step
    labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    labels[near] = labels[far] = WALL
    ranges = view.look(labels, KINDS)[1]
    beam = round((math.atan2(y[near], x[near]) + math.pi) / view.beam_step)
    assert ranges[beam] == pytest.approx(math.hypot(x[near], y[near]), rel=1e-5)
    assert math.hypot(x[far], y[far]) > 1.2 * ranges[beam]


def rolled(pitch: float, roll: float) -> CameraPose:
    """A camera above the origin that is turned about its own axis, degrees."""
    level = CameraPose.of_mount(MOUNT, math.radians(pitch))
    right, down, ahead = np.array(level.axes)
    c, s = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    axes = [c * right + s * down, c * down - s * right, ahead]
    return CameraPose(level.position, tuple(tuple(axis) for axis in axes))  # type: ignore[arg-type]


@pytest.mark.parametrize("roll", [0, 20, 45, 90, 180, 270])
@pytest.mark.parametrize("pitch", [5, 45, 70])
def test_no_obstacle_is_missed_whichever_way_up_the_camera_is_and_wherever_it_looks(pitch: float, roll: float) -> None:
    pose, model = rolled(pitch, roll), CameraModel.from_info(camera_info(160, 120, focal=110.0), 160, 120)
    x, y = ground_points(model.rays().reshape(-1, 2), pose).T
    with np.errstate(invalid="ignore"):
        post = (np.abs(x - 1.2) < 0.3) & (np.abs(y - 0.3) < 0.2)
        other = post | (x > 5) | ~np.isfinite(x)
    view = GroundView(model, pose, LAYOUT)
    _, ranges = view.look(np.where(other, WALL, ROAD).astype(np.uint8).reshape(120, 160), KINDS)

    counts = other & (np.hypot(x, y) <= LAYOUT.range_m)
    beams = np.rint((np.arctan2(y[counts], x[counts]) + math.pi) / view.beam_step).astype(int) % LAYOUT.beams
    nearest = np.full(LAYOUT.beams, np.inf)
    np.minimum.at(nearest, beams, np.hypot(x, y)[counts])
    hit = np.isfinite(nearest)
    assert hit.sum() > 10
    assert (ranges[hit] <= nearest[hit] + LAYOUT.resolution_m).all()


def test_beside_the_field_of_view_the_near_ground_says_nothing_of_the_far_one() -> None:
    """A camera that looks down sees its own sides: they are no free way to the range."""
    view = GroundView(camera(), CameraPose.of_mount(MOUNT, math.radians(40), 0.0), LAYOUT)
    points = ground_points(camera().rays().reshape(-1, 2), CameraPose.of_mount(MOUNT, math.radians(40), 0.0))
    corner = np.abs(np.arctan2(*points[-1][::-1]))
    _, ranges = view.look(np.full((HEIGHT, WIDTH), ROAD, np.uint8), KINDS)
    angles = np.abs(beam_angles(view, ranges))
    assert np.isinf(ranges[angles < math.atan(WIDTH / 2 / FOCAL) - 0.05]).all()
    assert np.isnan(ranges[(angles > corner - 0.05) & (angles < corner - 0.01)]).all()


def test_points_behind_the_camera_have_no_ray() -> None:
    ahead, behind = CameraPose.of_mount(MOUNT, PITCH, AHEAD).rays(np.array([[3.0, 0.5, 0.0], [-3.0, 0.5, 0.0]]))
    assert np.isfinite(ahead).all()
    assert np.isnan(behind).all()


def test_an_empty_road_is_free_where_the_camera_looks_and_unknown_elsewhere(view: GroundView) -> None:
    _, ranges = view.look(np.full((HEIGHT, WIDTH), ROAD, np.uint8), KINDS)
    angles = beam_angles(view, ranges)
    inner = np.abs(angles) < math.atan(WIDTH / 2 / FOCAL) - 0.05
    assert np.isinf(ranges[inner]).all()
    assert np.isnan(ranges[np.abs(angles) > math.radians(60)]).all()


def test_an_image_with_fewer_columns_than_beams_leaves_no_gap(view: GroundView) -> None:
    narrow = CameraModel.from_info(camera_info(40, 30, focal=FOCAL / 8), 40, 30)
    coarse = GroundView(narrow, CameraPose.of_mount(MOUNT, PITCH, AHEAD), LAYOUT)
    for label in (ROAD, WALL):
        fine, ranges = (
            one.look(np.full(size, label, np.uint8), KINDS)[1]
            for one, size in ((view, (HEIGHT, WIDTH)), (coarse, (30, 40)))
        )
        inner = np.abs(beam_angles(view, ranges)) < math.atan(WIDTH / 2 / FOCAL) - 0.1
        assert not np.isnan(ranges[inner]).any()
        assert not np.isnan(fine[inner]).any()


def test_the_robots_own_bonnet_hides_nothing_but_an_unlabelled_road_is_not_free(view: GroundView) -> None:
    bonnet = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    bonnet[-20:] = NONE
    hole = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    hole[-60:-40] = NONE
    free, holed = view.look(bonnet, KINDS)[1], view.look(hole, KINDS)[1]
    assert np.isinf(free).sum() > 100
    assert np.isnan(holed).all()
    assert (view.look(hole, KINDS)[0] == UNKNOWN).sum() > (view.look(bonnet * 0, KINDS)[0] == UNKNOWN).sum()


def test_one_thing_behind_the_origin_does_not_fill_the_scan() -> None:
    """Of ground behind the origin the left border of a pixel has the smaller angle."""
    looking_down = CameraPose.of_mount(MOUNT, math.radians(70), 0.0)
    view = GroundView(camera(), looking_down, LAYOUT)
    labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    labels[-8:, 150:156] = WALL
    ranges = view.look(labels, KINDS)[1]
    assert 0 < np.isfinite(ranges).sum() < 40


def test_ranges_are_from_the_origin_of_the_robot_and_not_from_the_camera() -> None:
    world = lane_with_a_box
    views = [GroundView(camera(), CameraPose.of_mount(MOUNT, PITCH, ahead), LAYOUT) for ahead in (AHEAD, AHEAD + 1)]
    labels = rendered(lambda x, y: x < 5.0 and world(x, y), camera())
    here, ahead = (view.look(labels, KINDS)[1][LAYOUT.beams // 2] for view in views)
    assert ahead == pytest.approx(here + 1, abs=1e-5)


def test_a_camera_that_sees_no_ground_is_refused() -> None:
    with pytest.raises(ImageError, match=r"sees no ground within 8 m from 1\.2 m above it") as caught:
        GroundView(camera(), CameraPose.of_mount(1.2, math.radians(-40)), LAYOUT)
    assert caught.value.cause == "pose"


@pytest.mark.parametrize(
    ("seen", "layout", "cause"),
    [
        (CameraModel(WIDTH, HEIGHT, (250.0, 250.0), (160.0, 120.0)), Layout(50.0, 0.02, 720), "grid"),
        (CameraModel(8000, 8000, (4000.0, 4000.0), (4000.0, 4000.0)), LAYOUT, "size"),
    ],
)
def test_p4_what_would_take_gigabytes_is_refused(seen: CameraModel, layout: Layout, cause: str) -> None:
    with pytest.raises(ImageError, match="more than") as caught:
        GroundView(seen, CameraPose.of_mount(1.2, 0.2), layout)
    assert caught.value.cause == cause


def test_a_mask_of_another_size_is_refused(view: GroundView) -> None:
    with pytest.raises(ImageError, match=r"the mask has shape \(240, 319\)"):
        view.look(np.zeros((HEIGHT, WIDTH - 1), np.uint8), KINDS)


def test_ids_without_a_class_are_unknown() -> None:
    assert KINDS[:3].tolist() == [DRIVABLE, OTHER, OTHER]
    assert set(KINDS[19:].tolist()) == {UNKNOWN}


def test_the_page_states_what_one_degree_of_pitch_makes_of_a_distance(repository: Path) -> None:
    text = (repository / "docs" / "robot" / "space.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) m \| ([\d.]+) m \| ([\d.]+) m \|$", text, re.MULTILINE)
    assert [int(true) for true, _, _ in rows] == [2, 5, 10, 20]
    for true, low, high in rows:
        ray = np.array([[0.0, 1.2 / float(true)]])  # a level camera, 1.2 m above the ground
        told = [ground_points(ray, CameraPose.of_mount(1.2, math.radians(pitch)))[0, 0] for pitch in (1, -1)]
        assert (float(low), float(high)) == pytest.approx(told, abs=0.05)
