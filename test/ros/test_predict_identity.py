"""Masks of `hrda predict` against those of the node: of large images, and over real DDS with the shipped model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from tiny_bundle import write_tiny_bundle

from hrda_core.adaptation.verdict import predictors
from hrda_core.inference import Bundle
from hrda_ros.model.segmenter import open_segmenter
from hrda_ros.settings.parameters import Settings
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


def _red_to_classes(network: Any, image: torch.Tensor, plan: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What the graph of the tiny bundle does, in PyTorch: class = red // 16, and sure of it."""
    labels = (image[:, 0] * 127.5 + 127.5).round().long() // 16
    return labels.to(torch.uint8), torch.ones(labels.shape)


@pytest.mark.parametrize("size", [(1080, 1440), (1440, 1920)])
def test_masks_of_a_large_image_are_the_same_in_node_command_and_judging(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/a.png"), rgb[..., ::-1])
    model = write_tiny_bundle(tmp_path / "model", long_side=640)
    of_the_node = open_segmenter(Settings(model=str(model)))(rgb).labels
    assert main([str(tmp_path / "in"), "--model", str(model), "--out", str(tmp_path / "out")]) == 0
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "out/labels/a.png"), cv2.IMREAD_UNCHANGED), of_the_node)
    monkeypatch.setattr(predictors, "predict_classes", _red_to_classes)
    monkeypatch.setattr(predictors, "load_network", lambda *_: None)
    adapted = predictors.as_candidates({"adapted": Bundle.open(model)}, tmp_path, threads=1)[0]
    assert adapted.other_network is not None
    for judged in (adapted.predict, adapted.other_network):
        np.testing.assert_array_equal(judged(rgb).labels, of_the_node)


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
    client.meet("/same/segment_node", publisher, outputs=[f"/same/segment_node/{name}" for name in names])
    for stamp, message in messages.items():
        for name in names:
            mask = client.exchange(publisher, message, masks[name])
            assert mask.data.tobytes() == predicted[stamp][name], f"{name} of frame {stamp}"
    assert len(np.unique(np.frombuffer(predicted[100]["labels"], np.uint8))) > 1
