"""Masks of `hrda predict` against those of the running node, over real DDS, with the shipped model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from hrda_training.predict import main

IMAGE = "sensor_msgs/msg/Image"


def _scene(number: int) -> np.ndarray:
    """Blocks of colour, so that the network sees more than one class."""
    small = np.random.default_rng(number).integers(0, 256, (5, 7, 3), np.uint8)
    return cv2.resize(small, (160, 96))


def _predicted(bag: Path, model: Path, out: Path) -> dict[int, dict[str, bytes]]:
    """Stamp -> mask name -> pixels, by the command."""
    outputs = "labels,color,overlay,confidence"
    assert main([str(bag), "--model", str(model), "--out", str(out), "--outputs", outputs]) == 0
    found: dict[int, dict[str, bytes]] = {}
    with AnyReader([out]) as reader:
        for connection, _, raw in reader.messages([c for c in reader.connections if c.msgtype == IMAGE]):
            message = reader.deserialize(raw, IMAGE)
            name = connection.topic.rpartition("/")[2]
            found.setdefault(message.header.stamp.sec, {})[name] = message.data.tobytes()
    return found


@pytest.mark.heavy
def test_the_running_node_and_the_command_make_the_same_bytes(
    start_node: Callable[..., Any],
    client: Any,
    image_message: Callable[..., Any],
    repository: Path,
    tmp_path: Path,
) -> None:
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    model, store = repository / "models/hrda_lite", get_typestore(Stores.ROS2_HUMBLE)
    messages = {}
    for number in range(3):
        message = image_message(_scene(number)[..., ::-1], "bgr8", padding=number)
        message.header.stamp.sec = 100 + number
        messages[100 + number] = message
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        camera = writer.add_connection("/camera/image_raw", IMAGE, typestore=store)
        for stamp, message in messages.items():
            writer.write(camera, stamp * 10**9, serialize_message(message))
    predicted = _predicted(tmp_path / "bag", model, tmp_path / "masks")
    assert set(predicted) == set(messages)

    names = ("labels", "color", "overlay", "confidence")
    options = ["-r", "__ns:=/same", "-r", "image:=camera/image_raw", "-p", f"model:={model}"]
    process = start_node(*options, "-p", "publish_confidence:=true")
    masks = {name: client.collect(Image, f"/same/segment_node/{name}") for name in names}
    publisher = client.camera("/same/camera/image_raw")
    process.wait_for_log("segmenting images")
    client.spin_until(lambda: publisher.get_subscription_count() == 1, "the node's subscription")
    client.spin_until(
        lambda: all(client.node.count_publishers(f"/same/segment_node/{name}") == 1 for name in names), "the outputs"
    )
    client.spin_for(0.3)
    for stamp, message in messages.items():
        for name in names:
            mask = client.exchange(publisher, message, masks[name])
            assert mask.data.tobytes() == predicted[stamp][name], f"{name} of frame {stamp}"
    assert len(np.unique(np.frombuffer(predicted[100]["labels"], np.uint8))) > 1
