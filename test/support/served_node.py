"""The real node in the test's process, with a back end of the test and a publisher that remembers the masks."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from fake_segmenter import FakeSegmenter

from hrda_core.inference import Prediction
from hrda_ros.frames.pipeline import OUTCOMES, Counts
from hrda_ros.health.diagnostics import NodeReport

WAIT_S = 60.0


class HeldSegmenter(FakeSegmenter):
    """The class of each pixel is its red value. It works on a frame for as long as the test wants it to."""

    def __init__(self) -> None:
        super().__init__("held")
        self.entered, self.leave = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, rgb: np.ndarray) -> Prediction:
        self.entered.release()
        assert self.leave.acquire(timeout=WAIT_S)
        labels = np.ascontiguousarray(rgb[..., 0])
        return Prediction(labels, labels)


class KeptMasks:
    """In place of the publisher of `~/labels`: keeps header and pixels of what is published."""

    def __init__(self) -> None:
        self.headers: list[Any] = []
        self.pixels: list[np.ndarray] = []

    def publish(self, message: Any) -> None:
        """Keep a copy, since the node writes into the message again."""
        self.headers.append(copy.deepcopy(message.header))
        self.pixels.append(np.frombuffer(message.data, np.uint8).copy().reshape(message.height, message.width))

    def get_subscription_count(self) -> int:
        """Somebody always wants them."""
        return 1


class ServedNode:
    """A node that is active.

    Attributes:
        node: the `SegmentNode`.
        masks_of: what it has published by camera, of the model that serves now.
        masks: those of its first camera.
    """

    def __init__(self, node: Any) -> None:
        self.node = node
        self.masks_of = {camera.name: KeptMasks() for camera in node.cameras}
        self.masks = self.masks_of[node.cameras[0].name]
        self.keep_masks()

    def keep_masks(self) -> None:
        """Take the place of the publishers of the model that serves now."""
        for name, masks in self.masks_of.items():
            self.node._models.serving.outputs[name].masks._publishers["labels"] = masks

    def give(self, message: Any, camera: int = 0, *, wait: bool = True) -> None:
        """Hand in a message as the subscription of a camera does, and wait until it is counted."""
        self.node.cameras[camera].on_image(message)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until no frame is in flight."""
        assert self.node.cameras[0].pipeline.wait_until_idle(WAIT_S)

    def report(self, active_s: float, silent_s: float, camera: int = 0) -> NodeReport:
        """What diagnostics say of a camera, so many seconds after the activation and after its last image."""
        report: NodeReport = self.node._report(self.node.cameras[camera], active_s, silent_s)
        return report

    def counts(self, camera: int = 0) -> Counts:
        """The counters of a camera, which add up."""
        counts: Counts = self.node.cameras[camera].pipeline.counts()
        assert counts.received == sum(getattr(counts, name) for name in OUTCOMES) + counts.in_flight
        return counts


@contextmanager
def served_node(
    name: str, segmenter: Callable[[Any], Any] | None = lambda _: FakeSegmenter("fake"), **parameters: Any
) -> Iterator[ServedNode]:
    """A node of this name; rclpy must run (fixture `ros`).

    Args:
        segmenter: makes the back end of the node's settings; None = as the node itself does.
        parameters: of the node.
    """
    from rclpy.parameter import Parameter

    from hrda_ros.segment_node import SegmentNode

    node = SegmentNode(
        predictor_factory=segmenter,
        parameter_overrides=[Parameter(key, value=value) for key, value in parameters.items()],
        cli_args=["--ros-args", "-r", f"__node:={name}"],
    )
    try:
        assert node.start()
        yield ServedNode(node)
    finally:
        node.close()
        node.destroy_node()
