"""Frames that nobody wants any more: the real node in this process, with a back end that counts its calls."""

from __future__ import annotations

from collections.abc import Iterator
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
    pipeline = node.node._pipeline
    before, calls = pipeline.counts(), node.segmenter.calls
    message = Image(height=2, width=2, encoding="rgb8", step=6)
    message.data.frombytes(bytes(12))
    message.header.stamp = (node.node.get_clock().now() - Duration(nanoseconds=int(age_s * 1e9))).to_msg()
    node.node._on_image(message)
    assert pipeline.wait_until_idle(5.0)
    after = pipeline.counts()
    causes = [cause for (_, cause), count in after.causes.items() if count > before.causes.get(("stale", cause), 0)]
    return (causes[0] if causes else "published"), node.segmenter.calls - calls


def test_lazy_node_does_not_infer_while_nobody_subscribes(node: Any) -> None:
    assert fate(node, lazy=True) == ("nobody_subscribed", 0)
    assert fate(node, lazy=False) == ("published", 1)


def test_frames_above_the_maximal_age_are_skipped(node: Any) -> None:
    assert fate(node, age_s=2.0, lazy=False, max_age_s=0.5) == ("too_old", 0)
    assert fate(node, age_s=0.1, lazy=False, max_age_s=0.5) == ("published", 1)
    assert fate(node, age_s=2.0, lazy=False, max_age_s=0.0) == ("published", 1)


def test_stamps_of_another_clock_are_not_taken_for_old(node: Any) -> None:
    assert fate(node, age_s=3600.0, lazy=False, max_age_s=0.5) == ("published", 1)
    assert fate(node, age_s=-3600.0, lazy=False, max_age_s=0.5) == ("published", 1)


def test_frames_after_deactivation_are_stale(node: Any) -> None:
    from rclpy.lifecycle import TransitionCallbackReturn

    assert node.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    assert fate(node, lazy=False, max_age_s=0.0) == ("deactivated", 0)
    assert node.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert fate(node) == ("published", 1)
