"""Fixtures for nodes that place masks in space: they run in the test's own process, over real DDS."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from space_messages import info_fields

from hrda_core.inference.label_info import label_info_json
from hrda_core.labels import CITYSCAPES19

_stamps = itertools.count(1)


@pytest.fixture
def frame_header(ros: Any) -> Callable[[], Any]:
    """Headers with stamps that grow: `frame_header()`."""
    from std_msgs.msg import Header

    def make() -> Any:
        header = Header(frame_id="camera_optical")
        header.stamp.sec, header.stamp.nanosec = 1_700_000_000 + next(_stamps), 999_999_001
        return header

    return make


@pytest.fixture
def plane_message(ros: Any) -> Callable[..., Any]:
    """Makes `sensor_msgs/Image` of one channel: `plane_message(header, pixels, "16UC1")`."""
    from sensor_msgs.msg import Image

    def make(header: Any, pixels: np.ndarray, encoding: str) -> Any:
        message = Image(header=header, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding)
        message.step = pixels.shape[1] * pixels.itemsize
        message.data.frombytes(np.ascontiguousarray(pixels).tobytes())
        return message

    return make


@pytest.fixture
def info_message(ros: Any) -> Callable[..., Any]:
    """Makes `sensor_msgs/CameraInfo`: `info_message(header, 64, 48, focal=50.0)`."""
    from sensor_msgs.msg import CameraInfo

    return lambda header, *size, **fields: CameraInfo(header=header, **info_fields(*size, **fields))


@pytest.fixture
def run_here(ros: Any, client: Any) -> Iterator[Callable[..., Any]]:
    """Runs a node beside the client, in its executor: `run_here(CloudNode, "-p", "stride:=1")`."""
    made: list[Any] = []

    def run(node_class: Any, *ros_args: str) -> Any:
        made.append(node_class(cli_args=["--ros-args", *ros_args]))
        client._executor.add_node(made[-1])
        return made[-1]

    yield run
    for node in made:
        client._executor.remove_node(node)
        node.close()
        node.destroy_node()


@pytest.fixture
def wait_for_classes(client: Any) -> Callable[[Any], None]:
    """Waits until a node of `run_here` has the classes; until then it leaves masks out."""
    return lambda node: client.spin_until(lambda: node._inputs._classes.at((0, 0)), "the classes")


@pytest.fixture
def publish_classes(client: Any, wait_for_classes: Callable[[Any], None]) -> Callable[[Any], None]:
    """Publishes the information about the classes of Cityscapes, latched, until a node has it."""
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import String

    def publish(node: Any) -> None:
        qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        publisher = client.node.create_publisher(String, node.resolve_topic_name("label_info"), qos)
        values = json.loads(label_info_json(CITYSCAPES19, model="m", preset="p", plan="whole"))
        publisher.publish(String(data=json.dumps({**values, "first_stamp": None})))
        wait_for_classes(node)

    return publish


@pytest.fixture
def inputs_of(client: Any) -> Callable[..., Any]:
    """Publishers of the inputs of a node, once it has subscribed: `inputs_of("/ns", labels=Image, depth=Image)`."""

    def publishers(namespace: str, **types: Any) -> Any:
        made = {name: client.camera(f"{namespace}/{name}", kind) for name, kind in types.items()}
        client.spin_until(
            lambda: all(publisher.get_subscription_count() for publisher in made.values()), "the node's subscriptions"
        )
        return SimpleNamespace(**made)

    return publishers
