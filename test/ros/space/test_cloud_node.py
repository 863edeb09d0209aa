"""The real `cloud_node` over real DDS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

HEIGHT, WIDTH = 24, 32
ROAD, CAR = 0, 13


def points_of(cloud: Any) -> np.ndarray:
    """The points of a message by the names of its fields."""
    kinds = {7: "<f4", 2: "u1"}
    kind = np.dtype(
        {
            "names": [field.name for field in cloud.fields],
            "formats": [kinds[field.datatype] for field in cloud.fields],
            "offsets": [field.offset for field in cloud.fields],
            "itemsize": cloud.point_step,
        }
    )
    return np.frombuffer(cloud.data, kind).reshape(cloud.height, cloud.width)


@pytest.fixture
def street(
    frame_header: Callable[[], Any], plane_message: Callable[..., Any], info_message: Callable[..., Any]
) -> Callable[..., dict[str, Any]]:
    """Messages of one stamp: a car in the middle of a road, 4 m away, with a column that has no depth."""
    labels = np.full((HEIGHT, WIDTH), ROAD, np.uint8)
    labels[8:16, 10:20] = CAR
    metres = np.full((HEIGHT, WIDTH), 4.0, np.float32)
    metres[:, 12] = np.nan

    def make(encoding: str = "32FC1") -> dict[str, Any]:
        header = frame_header()
        with np.errstate(invalid="ignore"):
            depth = metres if encoding == "32FC1" else np.nan_to_num(metres * 1000).astype(np.uint16)
        return {
            "labels": plane_message(header, labels, "mono8"),
            "depth": plane_message(header, depth, encoding),
            "camera_info": info_message(header, WIDTH, HEIGHT, focal=20.0, center=(15.0, 11.0)),
            "confidence": plane_message(header, labels + 100, "mono8"),
        }

    return make


def types() -> dict[str, Any]:
    from sensor_msgs.msg import CameraInfo, Image

    return {"labels": Image, "depth": Image, "camera_info": CameraInfo, "confidence": Image}


def test_points_and_obstacles_of_a_frame_with_its_header_and_nothing_while_nobody_listens(
    client: Any, run_here: Any, publish_classes: Any, inputs_of: Any, street: Any
) -> None:
    from sensor_msgs.msg import PointCloud2

    from hrda_ros.space.cloud_node import CloudNode
    from hrda_ros.space.mask_inputs import FOLLOW_S

    names = ("-r", "__ns:=/cloud", "-p", "stride:=1", "-p", "use_confidence:=true")
    node = run_here(CloudNode, *names)
    publish_classes(node)
    client.spin_for(2 * FOLLOW_S)
    assert client.node.count_subscribers("/cloud/depth") == 0, "nobody wants points yet"
    clouds = client.collect(PointCloud2, "/cloud/cloud_node/points")
    obstacles = client.collect(PointCloud2, "/cloud/cloud_node/obstacles")
    inputs = inputs_of("/cloud", **types())

    for encoding in ("32FC1", "16UC1"):
        messages = street(encoding)
        header = messages["labels"].header
        client.spin_until(lambda: node._obstacles.get_subscription_count() == 1, "both subscriptions")
        # The depth comes first, then frames without depth, then the mask: only the stamp decides.
        for name in ("depth", "camera_info"):
            getattr(inputs, name).publish(messages[name])
        inputs.labels.publish(street()["labels"])
        inputs.confidence.publish(messages["confidence"])
        client.spin_for(0.2)
        assert not [cloud for cloud in clouds if cloud.header == header]
        inputs.labels.publish(messages["labels"])
        client.spin_until(lambda: clouds and clouds[-1].header == header, "points")  # noqa: B023
        client.spin_until(lambda: obstacles and obstacles[-1].header == header, "obstacles")  # noqa: B023

        points = points_of(clouds[-1])
        assert points.shape == (HEIGHT, WIDTH)
        assert np.isnan(points["z"][:, 12]).all()
        np.testing.assert_allclose(points["z"][:, 13:], 4.0)
        np.testing.assert_allclose(points["x"][0, 25], (25 - 15.0) / 20.0 * 4.0, rtol=1e-6)
        np.testing.assert_allclose(points["y"][20, 25], (20 - 11.0) / 20.0 * 4.0, rtol=1e-6)
        found = points_of(obstacles[-1])
        assert found.shape == (1, 8 * 9), "eight rows of ten pixels, one without depth"
        assert set(found["label"].flat) == {CAR}
        assert set(found["confidence"].flat) == {CAR + 100}
    assert len(clouds) == 2


def test_a_bad_message_is_a_warning_and_the_next_good_one_is_served(
    client: Any, run_here: Any, publish_classes: Any, inputs_of: Any, street: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sensor_msgs.msg import PointCloud2

    from hrda_ros.space.cloud_node import CloudNode

    node = run_here(CloudNode, "-r", "__ns:=/bad", "-p", "no_obstacle:=roads")
    said: list[str] = []
    monkeypatch.setattr(node._inputs, "_warn", said.append)
    clouds = client.collect(PointCloud2, "/bad/cloud_node/points")
    wanted = {name: kind for name, kind in types().items() if name != "confidence"}
    inputs = inputs_of("/bad", **wanted)

    def send(**replaced: Any) -> Any:
        messages = street()
        for name in wanted:
            message = messages[name]
            for field, value in replaced.get(name, {}).items():
                setattr(message, field, value)
            getattr(inputs, name).publish(message)
        return messages["labels"].header

    send()
    client.spin_until(lambda: said, "the warning that the classes are not known")
    publish_classes(node)
    for replaced in (
        {"depth": {"encoding": "rgb8"}},
        {"depth": {"data": b"short"}},
        {"labels": {"height": HEIGHT - 2}},
        {"camera_info": {"k": [0.0] * 9}},
        {"labels": {"data": b"\x13" * HEIGHT * WIDTH}},
    ):
        before = len(said)
        send(**replaced)
        client.spin_until(lambda: len(said) > before, "a warning")  # noqa: B023
    header = send()
    client.spin_until(lambda: clouds, "the good one")
    assert (node._inputs._tally.placed, node._inputs._tally.left_out) == (1, 6)
    assert [cloud.header for cloud in clouds] == [header]
    for sentence, expected in zip(
        said,
        (
            "masks come, but no label_info",
            "image encoding 'rgb8' does not fit here; expected 16UC1 or mono16 or 32FC1",
            "the message holds 5",
            "camera_info describes images of 32 x 24 pixels, but the mask has 32 x 22",
            "the camera is not calibrated",
            "the mask has the class id 19, but label_info names 19 classes",
        ),
        strict=True,
    ):
        assert expected in sentence


def test_points_fit_the_subscription_of_nav2s_semantic_layer_and_the_shipped_file_reaches_the_node(
    client: Any, run_here: Any, serves_semantic_layer: Callable[..., bool], repository: Path
) -> None:
    from hrda_ros.space.cloud_node import CloudNode

    # Its two blocks for nodes, as segment.launch.py and space.launch.py pass them on.
    file = repository / "config" / "nav2" / "semantic_layer.yaml"
    node = run_here(CloudNode, "-r", "__ns:=/nav2", "--params-file", str(file))
    assert node.get_parameter("stride").value == 1
    client.spin_until(lambda: client.node.count_publishers("/nav2/cloud_node/points") == 1, "the points")
    (publisher,) = client.node.get_publishers_info_by_topic("/nav2/cloud_node/points")
    assert publisher.topic_type == "sensor_msgs/msg/PointCloud2"
    assert serves_semantic_layer(publisher)


def test_subscriptions_end_with_the_last_subscriber_and_begin_again_with_the_next_one(
    client: Any, run_here: Any, inputs_of: Any, street: Any
) -> None:
    from sensor_msgs.msg import PointCloud2

    from hrda_ros.space.cloud_node import CloudNode

    # No /clock runs here: what a paused simulation does to timers on its clock must not keep the node from looking.
    node = run_here(CloudNode, "-r", "__ns:=/lazy", "-p", "use_sim_time:=true")
    subscription = client.node.create_subscription(PointCloud2, "/lazy/cloud_node/obstacles", lambda cloud: None, 1)
    inputs = inputs_of("/lazy", labels=types()["labels"])
    inputs.labels.publish(street()["labels"])
    client.spin_until(lambda: node._inputs._sets.waiting()["labels"] == 1, "a mask that waits for its depth")
    client.node.destroy_subscription(subscription)
    client.spin_until(lambda: inputs.labels.get_subscription_count() == 0, "the end of the subscription")
    assert not any(node._inputs._sets.waiting().values())
    client.node.create_subscription(PointCloud2, "/lazy/cloud_node/points", lambda cloud: None, 1)
    client.spin_until(lambda: inputs.labels.get_subscription_count() == 1, "the next subscription")


def test_a_fault_that_nobody_thought_of_is_a_warning_too(
    client: Any, run_here: Any, publish_classes: Any, inputs_of: Any, street: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sensor_msgs.msg import PointCloud2

    from hrda_ros.space import cloud_node

    node = run_here(cloud_node.CloudNode, "-r", "__ns:=/fault")
    publish_classes(node)
    said: list[str] = []
    monkeypatch.setattr(node._inputs, "_warn", said.append)
    clouds = client.collect(PointCloud2, "/fault/cloud_node/points")
    wanted = {name: kind for name, kind in types().items() if name != "confidence"}
    inputs = inputs_of("/fault", **wanted)

    def send() -> None:
        for name, message in street().items():
            if name in wanted:
                getattr(inputs, name).publish(message)

    with monkeypatch.context() as broken:
        broken.setattr(cloud_node, "decode_plane", lambda message, kinds: 1 // 0)
        send()
        client.spin_until(lambda: said, "the warning")
    assert said == ["ZeroDivisionError: integer division or modulo by zero"]
    send()
    client.spin_until(lambda: clouds, "the next cloud")


def test_the_log_says_what_is_missing_while_nothing_can_be_published(
    client: Any,
    run_here: Any,
    inputs_of: Any,
    street: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import PointCloud2

    from hrda_ros.space import mask_inputs
    from hrda_ros.space.cloud_node import CloudNode

    monkeypatch.setattr(mask_inputs, "WATCH_S", 0.5)
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    run_here(CloudNode, "-r", "__ns:=/silent")
    client.collect(PointCloud2, "/silent/cloud_node/points")
    inputs = inputs_of("/silent", labels=types()["labels"])
    log = ""

    def said(text: str) -> bool:
        nonlocal log
        inputs.labels.publish(street()["labels"])
        log += capfd.readouterr().err
        return text in log

    client.spin_until(lambda: said("nothing came on depth and camera_info (labels "), "the warning")
    assert "(topics /silent/labels, /silent/depth, /silent/camera_info)" in log
    level, text, values = client.status(diagnostics, "/silent/cloud_node")
    assert level == 1
    assert text.startswith("nothing to publish: nothing came on depth and camera_info")
    assert values["placed"] == "0"
    assert int(values["waiting/labels"]) > 0


def test_a_label_info_that_cannot_be_read_is_told_while_masks_are_placed_in_the_classes_of_before(
    client: Any, run_here: Any, publish_classes: Any, inputs_of: Any, street: Any
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import PointCloud2
    from std_msgs.msg import String

    from hrda_ros.space.cloud_node import CloudNode

    node = run_here(CloudNode, "-r", "__ns:=/doubt")
    diagnostics = client.collect(DiagnosticArray, "/diagnostics")
    clouds = client.collect(PointCloud2, "/doubt/cloud_node/points")
    wanted = {name: kind for name, kind in types().items() if name != "confidence"}
    inputs = inputs_of("/doubt", **wanted)

    def told(text: str, **replaced: Any) -> tuple[int, str]:
        """The first status with a text, while frames come."""
        found: list[tuple[int, str]] = []

        def look() -> bool:
            messages = {**street(), **replaced}
            for name in wanted:
                messages[name].header = messages["labels"].header
                getattr(inputs, name).publish(messages[name])
            client.spin_for(0.2)
            level, message, _ = client.status(diagnostics, "/doubt/cloud_node")
            found.append((level, message))
            return text in message

        client.spin_until(look, text)
        return found[-1]

    node._inputs._on_label_info(String(data="{"))
    assert told("label_info is not what segment_node publishes")[0] == 2
    publish_classes(node)
    assert told("mask(s) placed")[0] == 0
    assert clouds
    node._inputs._on_label_info(String(data="{"))
    assert told("mask(s) placed, but with the classes of before: label_info is not what segment_node")[0] == 1
    depth = street("16UC1")["depth"]
    depth.data[:] = type(depth.data)("B", bytes(len(depth.data)))
    publish_classes(node)
    assert told("without a point: no depth of it is between 0.1 m and 20 m", depth=depth)[0] == 1
