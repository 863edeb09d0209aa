"""The real `ground_node` over real DDS."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("nav_msgs.msg")

HEIGHT, WIDTH = 60, 80
ROAD, CAR = 0, 13


@pytest.fixture
def ground(client: Any, run_here: Any, publish_classes: Any, inputs_of: Any) -> Callable[..., Any]:
    """Starts a node in a namespace: its grids, scans and inputs."""
    from types import SimpleNamespace

    from nav_msgs.msg import OccupancyGrid
    from sensor_msgs.msg import CameraInfo, Image, LaserScan

    from hrda_ros.space.ground_node import GroundNode

    def start(namespace: str, *ros_args: str) -> Any:
        node = run_here(GroundNode, "-r", f"__ns:={namespace}", *ros_args)
        publish_classes(node)
        grids = client.collect(OccupancyGrid, f"{namespace}/ground_node/grid")
        scans = client.collect(LaserScan, f"{namespace}/ground_node/scan")
        inputs = inputs_of(namespace, labels=Image, camera_info=CameraInfo)
        client.spin_until(lambda: node._scan_publisher.get_subscription_count() == 1, "the scan's subscription")
        return SimpleNamespace(node=node, grids=grids, scans=scans, inputs=inputs)

    return start


def test_grid_and_scan_of_a_mask_in_the_frame_of_the_robot_with_the_stamp_of_the_mask(
    client: Any, ground: Any, frame_header: Any, plane_message: Any, info_message: Any
) -> None:
    started = ground(
        "/ground", "-p", "height_m:=1", "-p", "frame:=base", "-p", "beams:=360", "-p", "resolution_m:=0.25"
    )
    labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    labels[:50, 30:50] = CAR  # its foot is at row 49
    header = frame_header()
    info = info_message(header, WIDTH, HEIGHT, focal=40.0, center=(39.5, 29.5))
    started.inputs.labels.publish(plane_message(header, labels, "mono8"))
    started.inputs.camera_info.publish(info)
    client.spin_until(lambda: started.grids and started.scans, "grid and scan")
    grid, scan = started.grids[-1], started.scans[-1]
    for message in (grid, scan):
        assert message.header.stamp == header.stamp
        assert message.header.frame_id == "base"

    foot = 40.0 / (49 - 29.5)
    assert len(scan.ranges) == 360
    assert scan.angle_max == pytest.approx(scan.angle_min + 359 * scan.angle_increment, abs=1e-5)
    assert scan.ranges[180] == pytest.approx(foot, rel=2e-3)
    assert scan.ranges[180 + 20] == math.inf
    assert math.isnan(scan.ranges[0])
    assert scan.range_max >= scan.ranges[180]

    cells = np.array(grid.data, np.int8).reshape(grid.info.height, grid.info.width)
    assert set(np.unique(cells)) == {-1, 0, 100}
    row = math.floor((0.0 - grid.info.origin.position.y) / grid.info.resolution)
    columns = [math.floor((x - grid.info.origin.position.x) / grid.info.resolution) for x in (foot - 0.4, foot + 0.1)]
    assert cells[row, columns].tolist() == [0, 100]
    assert grid.info.origin.orientation.w == 1.0


def test_a_wrong_calibration_is_a_warning_and_a_new_pitch_counts_from_the_next_mask_on(
    client: Any, ground: Any, frame_header: Any, plane_message: Any, info_message: Any, monkeypatch: Any
) -> None:
    started = ground("/pitched", "-p", "height_m:=1.0")
    said: list[str] = []
    monkeypatch.setattr(started.node._inputs, "_warn", said.append)
    labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    labels[:50] = CAR

    def send(**fields: Any) -> None:
        header = frame_header()
        started.inputs.labels.publish(plane_message(header, labels, "mono8"))
        started.inputs.camera_info.publish(
            info_message(header, WIDTH, HEIGHT, **{"focal": 40.0, "center": (39.5, 29.5), **fields})
        )

    def ahead() -> float:
        before = len(started.scans)
        send()
        client.spin_until(lambda: len(started.scans) > before, "a scan")
        return float(started.scans[-1].ranges[360])

    send(focal=0.0)
    client.spin_until(lambda: said, "the warning")
    assert "the camera is not calibrated" in said[0]
    assert not started.scans
    assert ahead() == pytest.approx(40.0 / 19.5, rel=2e-3)
    assert not client.set_parameter("/pitched/ground_node", "pitch_deg", 90.5).successful
    assert client.set_parameter("/pitched/ground_node", "pitch_deg", 10.0).successful
    assert ahead() == pytest.approx(1 / math.tan(math.radians(10) + math.atan(19.5 / 40)), rel=2e-3)


class StandInBuffer:
    """What is used of `tf2_ros.Buffer`, which is not on PyPI: the newest transform from a frame to another one."""

    asked: list[tuple[str, str]]
    shift_m = 0.0

    def __init__(self) -> None:
        StandInBuffer.asked, StandInBuffer.shift_m = [], 0.0

    def lookup_transform(self, target_frame: str, source_frame: str, time: Any) -> Any:
        from types import SimpleNamespace

        self.asked.append((target_frame, source_frame))
        if len(self.asked) == 1:
            raise LookupError(f"'{source_frame}' passed to lookupTransform argument source_frame does not exist.")
        from geometry_msgs.msg import Transform

        transform = Transform()
        transform.translation.x, transform.translation.z = 0.5 + StandInBuffer.shift_m, 1.0
        rotation = transform.rotation  # an optical frame that looks along x
        rotation.x, rotation.y, rotation.z, rotation.w = -0.5, 0.5, -0.5, 0.5
        return SimpleNamespace(transform=transform)


def test_the_pose_is_that_of_the_masks_frame_in_tf_as_soon_as_there_is_one(
    client: Any, ground: Any, frame_header: Any, plane_message: Any, info_message: Any, monkeypatch: Any
) -> None:
    from types import SimpleNamespace

    stand_in = SimpleNamespace(Buffer=StandInBuffer, TransformListener=lambda buffer, node: None)
    monkeypatch.setitem(sys.modules, "tf2_ros", stand_in)
    started = ground("/by_tf", "-p", "use_tf:=true")
    said: list[str] = []
    monkeypatch.setattr(started.node._inputs, "_warn", said.append)
    labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    labels[:50] = CAR

    def send() -> None:
        header = frame_header()
        started.inputs.labels.publish(plane_message(header, labels, "mono8"))
        started.inputs.camera_info.publish(info_message(header, WIDTH, HEIGHT, focal=40.0, center=(39.5, 29.5)))

    send()
    client.spin_until(lambda: said, "the warning")
    assert said[0].startswith("LookupError: 'camera_optical' passed to lookupTransform")
    send()
    client.spin_until(lambda: started.scans, "a scan")
    assert started.scans[-1].ranges[360] == pytest.approx(0.5 + 40.0 / 19.5, rel=2e-3)

    views = started.node._views
    view = views._made
    for StandInBuffer.shift_m in (0.001, 0.004, 0.25):
        before = len(started.scans)
        assert views._made is view, "the noise of a joint makes no new view"
        send()
        client.spin_until(lambda: len(started.scans) > before, "a scan")  # noqa: B023
    assert started.scans[-1].ranges[360] == pytest.approx(0.75 + 40.0 / 19.5, rel=2e-3)
    assert set(StandInBuffer.asked) == {("base_footprint", "camera_optical")}
