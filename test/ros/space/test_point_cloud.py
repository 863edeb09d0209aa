"""Points from masks and depth, against a loop over pixels."""

from __future__ import annotations

import math
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from space_messages import camera_info

from hrda_core.errors import ImageError
from hrda_core.labels import CITYSCAPES19, LabelSpace
from hrda_ros.settings.class_names import names_of
from hrda_ros.space.camera_model import CameraModel
from hrda_ros.space.cloud_message import CloudMessage
from hrda_ros.space.cloud_settings import CloudSettings
from hrda_ros.space.point_cloud import POINT, CloudMaker, Selection, metres

WIDTH, HEIGHT, FOCAL, CENTER = 33, 21, 40.0, (15.0, 9.5)
NEAR, FAR = 0.5, 12.0
FREE = names_of(CloudSettings().no_obstacle)


@pytest.fixture
def frame() -> SimpleNamespace:
    """A mask with all ids and some that are no class, confidence, and depth in metres with everything that is none."""
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 21, (HEIGHT, WIDTH), np.uint8)
    labels[labels == 20] = 255
    depth = generator.uniform(0.2, 14.0, (HEIGHT, WIDTH)).astype(np.float32)
    for value in (0.0, -1.0, np.nan, np.inf, -np.inf, NEAR, FAR):
        depth[generator.random(depth.shape) < 0.05] = value
    return SimpleNamespace(labels=labels, depth=depth, confidence=generator.integers(0, 256, labels.shape, np.uint8))


def maker(stride: int, shown: list[str], free: list[str] = FREE) -> CloudMaker:
    info = camera_info(WIDTH, HEIGHT, focal=FOCAL, center=CENTER)
    selection = Selection.of(CITYSCAPES19, shown, free)
    return CloudMaker(CameraModel.from_info(info, WIDTH, HEIGHT), stride, selection, NEAR, FAR)


def made(maker: CloudMaker, frame: SimpleNamespace, **replaced: Any) -> tuple[np.ndarray, np.ndarray]:
    points = np.zeros(maker.shape, POINT)
    inputs = {"labels": frame.labels, "depth": frame.depth, "confidence": frame.confidence, **replaced}
    return points, maker.fill(points, **inputs)


def expected(frame: SimpleNamespace, row: int, column: int) -> tuple[float, float, float] | None:
    """The point of a pixel by the pinhole formula; None where there is no depth in range."""
    z = float(frame.depth[row, column])
    if not (math.isfinite(z) and NEAR <= z <= FAR):
        return None
    return (column - CENTER[0]) / FOCAL * z, (row - CENTER[1]) / FOCAL * z, z


@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("shown", [[], ["car", "road"]])
def test_every_point_is_where_the_pinhole_formula_has_it(frame: SimpleNamespace, stride: int, shown: list[str]) -> None:
    points, _ = made(maker(stride, shown), frame)
    assert points.shape == (-(-HEIGHT // stride), -(-WIDTH // stride))
    ids = {CITYSCAPES19.classes.index(name) for name in shown} or set(range(19))
    seen = 0
    for (row, column), point in np.ndenumerate(points):
        label = int(frame.labels[row * stride, column * stride])
        place = expected(frame, row * stride, column * stride)
        xyz = tuple(float(point[axis]) for axis in "xyz")
        if place is None or label not in ids:
            assert all(math.isnan(value) for value in xyz)
        else:
            seen += 1
            np.testing.assert_allclose(xyz, place, rtol=1e-6, atol=1e-6)
        assert point["label"] == label
        assert point["confidence"] == frame.confidence[row * stride, column * stride]
        colour = CITYSCAPES19.palette[label] if label < 19 else (0, 0, 0)
        assert int(point["rgb"]).to_bytes(4, "big") == bytes([0, *colour])
    assert seen


@pytest.mark.parametrize("shown", [[], ["road"]])
def test_obstacles_are_the_points_of_all_classes_but_the_free_ones(frame: SimpleNamespace, shown: list[str]) -> None:
    _, obstacles = made(maker(2, shown), frame)
    free = {CITYSCAPES19.classes.index(name) for name in FREE}
    places = [
        expected(frame, row, column)
        for row in range(0, HEIGHT, 2)
        for column in range(0, WIDTH, 2)
        if frame.labels[row, column] < 19 and int(frame.labels[row, column]) not in free
    ]
    wanted = np.array([place for place in places if place is not None], np.float32)
    assert len(wanted) > 20
    np.testing.assert_allclose(np.stack([obstacles[axis] for axis in "xyz"], -1), wanted, rtol=1e-6, atol=1e-6)


def test_a_class_that_nobody_has_heard_of_is_an_obstacle_and_an_unlabelled_pixel_is_not() -> None:
    selection = Selection.of(LabelSpace("farm", ("road", "cow")), [], FREE)
    assert np.flatnonzero(selection.obstacles).tolist() == [1]
    assert np.flatnonzero(selection.shown).tolist() == [0, 1]


@pytest.mark.parametrize("order", ["<", ">"])
def test_depth_in_millimetres_gives_the_points_of_the_same_depth_in_metres(frame: SimpleNamespace, order: str) -> None:
    millimetres = np.random.default_rng(5).integers(0, 65536, (HEIGHT, WIDTH)).astype(f"{order}u2")
    millimetres[::3] = 0
    in_millimetres, _ = made(maker(1, []), frame, depth=millimetres)
    in_metres, _ = made(maker(1, []), frame, depth=(millimetres / 1000).astype(f"{order}f4"))
    assert np.isfinite(in_millimetres["z"]).sum() > 50
    for axis in "xyz":
        np.testing.assert_allclose(in_millimetres[axis], in_metres[axis], rtol=1e-6)
    assert metres(np.array([1000, 0], "u2")).tolist() == [1.0, 0.0]


def test_no_depth_is_no_point_also_where_every_depth_counts(frame: SimpleNamespace) -> None:
    camera = CameraModel.from_info(camera_info(WIDTH, HEIGHT), WIDTH, HEIGHT)
    making = CloudMaker(camera, 1, Selection.of(CITYSCAPES19, [], []), near=0.0, far=1000.0)
    labels = np.zeros_like(frame.labels)
    points, obstacles = made(making, frame, labels=labels)
    seen = np.isfinite(frame.depth) & (frame.depth > 0)
    assert 0 < seen.sum() < seen.size
    np.testing.assert_array_equal(np.isfinite(points["z"]), seen)
    assert len(obstacles) == seen.sum()


def test_a_pixel_without_a_ray_is_no_point_and_no_obstacle() -> None:
    info = camera_info(640, 480, focal=200.0, distortion_model="equidistant", d=[0.0, 0.0, 0.0, 0.0])
    wide = CloudMaker(CameraModel.from_info(info, 640, 480), 8, Selection.of(CITYSCAPES19, [], []), NEAR, FAR)
    points = np.zeros(wide.shape, POINT)
    obstacles = wide.fill(points, np.zeros((480, 640), np.uint8), np.full((480, 640), 2.0, np.float32), None)
    assert 0 < len(obstacles) < points.size
    for axis in ("x", "y", "z"):
        assert np.isfinite(obstacles[axis]).all()
        assert np.isnan(points[axis][0, 0])


def test_without_confidence_the_field_is_zero(frame: SimpleNamespace) -> None:
    points, _ = made(maker(1, []), frame, confidence=None)
    assert not points["confidence"].any()


@pytest.mark.parametrize("name", ["labels", "depth", "confidence"])
def test_images_of_another_size_are_refused(frame: SimpleNamespace, name: str) -> None:
    with pytest.raises(ImageError, match="has 31 x 21 pixels, but the camera 33 x 21") as caught:
        made(maker(1, []), frame, **{name: getattr(frame, name)[:, 2:]})
    assert caught.value.cause == "size"


# The message.


def message() -> SimpleNamespace:
    from array import array

    return SimpleNamespace(data=array("B"), fields=[])


def test_a_reader_that_follows_the_fields_finds_the_points(frame: SimpleNamespace) -> None:
    cloud, obstacle_cloud = (CloudMessage(message(), SimpleNamespace) for _ in range(2))
    making = maker(2, [])
    obstacles = making.fill(cloud.points(*making.shape), frame.labels, frame.depth, frame.confidence)
    obstacle_cloud.copy(obstacles)
    fields = {field.name: (field.offset, {7: "<f", 2: "B"}[field.datatype]) for field in cloud.message.fields}
    assert list(fields) == ["x", "y", "z", "rgb", "label", "confidence"]
    for written, points in ((cloud.message, cloud.points(*making.shape)), (obstacle_cloud.message, obstacles[None])):
        assert (written.height, written.width) == points.shape
        assert written.row_step == written.width * written.point_step
        assert len(written.data) == written.height * written.row_step
        for (row, column), point in np.ndenumerate(points):
            start = row * written.row_step + column * written.point_step
            for name in ("x", "y", "z", "label", "confidence"):
                offset, code = fields[name]
                (value,) = struct.unpack_from(code, written.data, start + offset)
                np.testing.assert_equal(value, point[name])  # NaN where the point is, and nowhere else
    assert (cloud.message.is_dense, obstacle_cloud.message.is_dense) == (False, True)


def test_the_memory_of_a_cloud_stays_while_its_size_does() -> None:
    cloud = CloudMessage(message(), SimpleNamespace)
    first = cloud.points(3, 4)
    assert cloud.points(3, 4) is first
    del first
    assert cloud.points(2, 2).shape == (2, 2)
    assert len(cloud.message.data) == 2 * 2 * POINT.itemsize


def test_a_frame_without_a_depth_that_counts_is_told_from_one_with_a_single_pixel(frame: SimpleNamespace) -> None:
    cloud = maker(1, ["car"])
    frame.depth[:] = 1000 * FAR  # millimetres that are called metres
    made(cloud, frame)
    assert not cloud.has_depth
    frame.depth[2, 3] = FAR
    made(cloud, frame)
    assert cloud.has_depth


def test_a_distortion_that_leads_nowhere_is_refused_and_makes_no_empty_clouds() -> None:
    info = camera_info(WIDTH, HEIGHT, focal=FOCAL, d=[-1e5] * 5)
    with pytest.raises(ImageError, match=r"only \d of 693 pixels of the camera have a ray") as caught:
        CloudMaker(CameraModel.from_info(info, WIDTH, HEIGHT), 1, Selection.of(CITYSCAPES19, [], FREE), NEAR, FAR)
    assert caught.value.cause == "camera_info"


def test_p4_a_cloud_that_would_take_gigabytes_is_refused() -> None:
    camera = CameraModel.from_info(camera_info(12000, 12000, focal=9000.0), 12000, 12000)
    with pytest.raises(ImageError, match="144000000 points, more than 16000000; set a larger stride") as caught:
        CloudMaker(camera, 1, Selection.of(CITYSCAPES19, [], FREE), NEAR, FAR)
    assert caught.value.cause == "size"
