"""Connects a model to the output topics of each camera, and reports on it there and in the log. Needs no rclpy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from hrda_ros.masks.outputs import MaskOutputs
from hrda_ros.model.plan_ladder import PlanLadder
from hrda_ros.model.plan_steps import NO_BUDGET, BudgetReport
from hrda_ros.model.segmenter import Segmenter

__all__ = ["CameraOutputs", "Running", "ServedModel", "Stamp", "describe_exchange"]

Stamp: TypeAlias = "tuple[int, int]"
"""Seconds and nanoseconds of a message header."""


@dataclass(frozen=True)
class Running:
    """The plan, graph and back end that make the masks.

    Attributes:
        plan: window plan.
        graph: image size of the graph after padding (height x width), and its precision.
        backend: description of the back end.
    """

    plan: str
    graph: str
    backend: str

    @classmethod
    def of(cls, segmenter: Segmenter) -> Running:
        """Ask a model. Only the thread that runs it may call this."""
        graph = segmenter.graph
        size = "{}x{}".format(*graph.size) if graph.size else "any size"
        return cls(segmenter.plan, f"{size}, {graph.precision}", segmenter.backend_description)

    def __str__(self) -> str:
        return f"plan {self.plan} ({self.graph}) on {self.backend}"


PublishInfo: TypeAlias = "Callable[[Segmenter, str, Stamp | None], None]"
"""Publishes the information about a model (the model, its id, and the stamp of its first mask, None before that)."""


class CameraOutputs:
    """The outputs of one camera: masks in the model's colours, and the latched information on which masks are its own.

    Args:
        segmenter: the model.
        identity: its `model_id`.
        masks: the image topics.
        publish_info: publishes the information.

    Attributes:
        masks: the image topics.
        running: what ran on the last frame of this camera; safe to read from any thread, and after the model's end.
    """

    def __init__(self, segmenter: Segmenter, identity: str, masks: MaskOutputs, publish_info: PublishInfo) -> None:
        self.masks = masks
        self.running = Running.of(segmenter)
        self._segmenter, self._identity = segmenter, identity
        self._publish_info = publish_info
        self._first_stamp: Stamp | None = None
        self._lock = threading.Lock()  # what is published last must be what holds last

    def look_again(self) -> bool:
        """Return whether another plan, graph or back end runs on this camera's images than before; a plan is published.

        This happens for an image of another size, after a GPU failure, and where a latency budget asks for another
        plan. Only the thread that runs the model may call it.
        """
        before, self.running = self.running, Running.of(self._segmenter)
        if self.running.plan != before.plan:
            self.announce()
        return self.running != before

    def activated(self) -> None:
        """Start over and publish that no mask has gone out yet."""
        with self._lock:
            self._first_stamp = None
            self._publish_info(self._segmenter, self._identity, None)

    def announce(self) -> None:
        """Publish the information as it is, for a model that is in use before a frame comes."""
        with self._lock:
            self._publish_info(self._segmenter, self._identity, self._first_stamp)

    def before_masks(self, header: Any) -> None:
        """Publish the information if the masks with this `std_msgs/Header` are the first ones."""
        if self._first_stamp is None:
            with self._lock:
                self._first_stamp = (header.stamp.sec, header.stamp.nanosec)
                self._publish_info(self._segmenter, self._identity, self._first_stamp)


class ServedModel:
    """A model with its outputs.

    Args:
        segmenter: the model.
        identity: its id, see `hrda_ros.masks.label_info.model_id`.
        outputs: the outputs of each camera, by its name.

    Attributes:
        segmenter, model_id, outputs: the arguments.
        running: what ran when it began to serve, for the log.
    """

    def __init__(self, segmenter: Segmenter, identity: str, outputs: Mapping[str, CameraOutputs]) -> None:
        self.segmenter, self.model_id, self.outputs = segmenter, identity, outputs
        self.running = Running.of(segmenter)

    @property
    def title(self) -> str:
        """Name, id and number of classes, for the log."""
        identity = f" ({self.model_id})" if self.model_id else ""
        bundle = self.segmenter.bundle
        return f"model '{bundle.name}'{identity}, {len(bundle.label_space)} classes"

    def took(self, duration_s: float) -> None:
        """Take what the work on a frame took, seconds. Only the thread that runs the model may call it."""
        if isinstance(self.segmenter, PlanLadder):
            self.segmenter.took(duration_s)

    def budget(self) -> BudgetReport:
        """Any thread: how a latency budget is kept."""
        return self.segmenter.report() if isinstance(self.segmenter, PlanLadder) else NO_BUDGET

    def activated(self) -> None:
        """As `CameraOutputs.activated`, for each camera."""
        for output in self.outputs.values():
            output.activated()

    def announce(self) -> None:
        """As `CameraOutputs.announce`, for each camera."""
        for output in self.outputs.values():
            output.announce()


def describe_exchange(old: ServedModel, new: ServedModel, duration_s: float) -> str:
    """Return one sentence about a reload that took `duration_s` seconds."""
    before, now = old.segmenter.bundle.label_space, new.segmenter.bundle.label_space
    if before == now:
        classes = f"the label space '{now.name}' is the same"
    else:
        classes = f"the label space changed from '{before.name}' to '{now.name}', see ~/label_info"
    return f"{new.title}, serves after {duration_s:.1f} s; {classes}; {new.running}"
