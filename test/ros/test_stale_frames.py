"""Frames that nobody wants any more: the real node in this process, with a back end that counts its calls."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_segmenter import FakeSegmenter

from hrda_core.inference import Prediction


class CountingSegmenter(FakeSegmenter):
    """Empty masks, and how often it was asked for them."""

    def __init__(self) -> None:
        super().__init__("counting")
        self.calls = 0

    def __call__(self, rgb: np.ndarray) -> Prediction:
        self.calls += 1
        return super().__call__(rgb)


@pytest.fixture(scope="module")
def node(ros: Any) -> Iterator[Any]:
    from hrda_ros.segment_node import SegmentNode

    segmenter = CountingSegmenter()
    node = SegmentNode(predictor_factory=lambda _: segmenter, cli_args=["--ros-args", "-r", "__node:=stale"])
    assert node.start()
    yield SimpleNamespace(node=node, segmenter=segmenter)
    node.close()
    node.destroy_node()


def fate(node: Any, age_s: float = 0.0, **parameters: Any) -> tuple[str, int]:
    """(outcome or cause, calls of the back end) of one frame whose stamp is `age_s` old."""
    from rclpy.duration import Duration
    from rclpy.parameter import Parameter
    from sensor_msgs.msg import Image

    results = node.node.set_parameters([Parameter(name, value=value) for name, value in parameters.items()])
    assert all(result.successful for result in results)
    pipeline = node.node.cameras[0].pipeline
    before, calls = pipeline.counts(), node.segmenter.calls
    message = Image(height=2, width=2, encoding="rgb8", step=6)
    message.data.frombytes(bytes(12))
    message.header.stamp = (node.node.get_clock().now() - Duration(nanoseconds=int(age_s * 1e9))).to_msg()
    node.node.cameras[0].on_image(message)
    assert pipeline.wait_until_idle(60.0)
    after = pipeline.counts()
    causes = [cause for (_, cause), count in after.causes.items() if count > before.causes.get(("stale", cause), 0)]
    return (causes[0] if causes else "published"), node.segmenter.calls - calls


def test_l5_lazy_node_does_not_infer_while_nobody_subscribes(node: Any) -> None:
    assert fate(node, lazy=True) == ("nobody_subscribed", 0)
    assert fate(node, lazy=False) == ("published", 1)


def test_frames_above_the_maximal_age_are_skipped(node: Any) -> None:
    assert fate(node, age_s=2.0, lazy=False, max_age_s=0.5) == ("too_old", 0)
    assert fate(node, age_s=0.1, lazy=False, max_age_s=0.5) == ("published", 1)
    assert fate(node, age_s=2.0, lazy=False, max_age_s=0.0) == ("published", 1)


def test_m8_stamps_of_another_clock_are_not_taken_for_old(node: Any) -> None:
    assert fate(node, age_s=3600.0, lazy=False, max_age_s=0.5) == ("published", 1)
    assert fate(node, age_s=-3600.0, lazy=False, max_age_s=0.5) == ("published", 1)


def test_p1_frames_after_deactivation_are_stale(node: Any) -> None:
    from rclpy.lifecycle import TransitionCallbackReturn

    assert node.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert fate(node, lazy=False, max_age_s=0.0) == ("deactivated", 0)
    assert node.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert fate(node) == ("published", 1)


def test_p1_frames_are_dropped_undecoded_while_the_node_is_switched_off(
    node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rclpy.lifecycle import TransitionCallbackReturn
    from std_srvs.srv import SetBool

    def switch(on: bool) -> str:
        answer = node.node._enable._serve(SetBool.Request(data=on), SetBool.Response())
        assert answer.success
        return str(answer.message)

    assert switch(False) == "segmentation is switched off: frames are dropped before they are decoded"
    with monkeypatch.context() as undecodable:
        undecodable.setattr(node.node.cameras[0], "decode", None)
        assert fate(node, lazy=False) == ("disabled", 0)
    assert not node.node._report(node.node.cameras[0], 9.0, 0.0).enabled
    assert {node.node.trigger_deactivate(), node.node.trigger_activate()} == {TransitionCallbackReturn.SUCCESS}
    assert fate(node) == ("disabled", 0), "transitions leave the switch alone"
    assert switch(False).startswith("segmentation was already switched off")
    assert switch(True) == "segmentation is switched on"
    assert fate(node) == ("published", 1)
    counts = node.node.cameras[0].pipeline.counts()
    assert counts.received == counts.published + counts.stale, "every frame has ended in one counter"


def test_frames_above_the_maximal_rate_are_dropped_from_the_next_frame_on(node: Any) -> None:
    fates = [fate(node, lazy=False, max_rate_hz=0.01) for _ in range(3)]
    assert fates == [("published", 1), ("published", 1), ("max_rate", 0)]
    assert fate(node, expected_rate=5.0) == ("max_rate", 0)
    assert node.node._report(node.node.cameras[0], 9.0, 0.0).expected_hz == 0.01, (
        "no more is expected than the limit lets through"
    )
    assert fate(node, max_rate_hz=0.0, expected_rate=0.0) == ("published", 1)


def test_l5_a_frame_is_saved_also_while_nobody_subscribes(node: Any, tmp_path: Path) -> None:
    fate(node, save_folder=str(tmp_path / "frames"))
    answer, answered = node.node._save_service._next_frame(), threading.Event()
    assert fate(node, lazy=True) == ("published", 1)
    answer.add_done_callback(lambda _: answered.set())
    assert answered.wait(20)
    assert answer.result().success, answer.result().message
    (folder,) = (tmp_path / "frames").iterdir()
    assert answer.result().message == f"saved '{folder}'"
    assert folder.name.startswith("stale_image_"), "node and topic, since cameras may share a stamp"
    facts = json.loads((folder / "frame.json").read_text())
    assert (facts["encoding"], facts["model"], facts["parameters"]["lazy"]) == ("rgb8", "counting", True)
    assert facts["running"]["plan"] == "tiles"
    assert {path.name for path in folder.iterdir()} == {
        "message.cdr", "image.png", "labels.png", "confidence.png", "frame.json",
    }  # fmt: skip
    assert fate(node, lazy=True) == ("nobody_subscribed", 0), "one call saves one frame"
