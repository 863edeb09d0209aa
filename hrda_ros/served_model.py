"""Connects a model to the node's output topics, and reports on it there and in the log. Needs no rclpy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from hrda_ros.label_info import model_id
from hrda_ros.outputs import MaskOutputs
from hrda_ros.segmenter import Segmenter

__all__ = ["Running", "ServedModel", "Stamp", "describe_exchange"]

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


class ServedModel:
    """A model with its outputs: masks in its colours, and the latched information that says which masks are its own.

    Args:
        segmenter: the model.
        masks: the image topics.
        publish_info: publishes the information about this model with the stamp of its first mask, None before that.

    Attributes:
        segmenter, masks: the model and the image topics.
        model_id: see `hrda_ros.label_info.model_id`.
        running: what ran when `look_again` was called last; safe to read from any thread, and after the model's end.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        masks: MaskOutputs,
        publish_info: Callable[[ServedModel, Stamp | None], None],
    ) -> None:
        self.segmenter, self.masks = segmenter, masks
        self.model_id = model_id(segmenter.bundle)
        self.running = Running.of(segmenter)
        self._publish_info = publish_info
        self._first_stamp: Stamp | None = None
        self._lock = threading.Lock()  # what is published last must be what holds last

    @property
    def title(self) -> str:
        """Name, id and number of classes, for the log."""
        identity = f" ({self.model_id})" if self.model_id else ""
        bundle = self.segmenter.bundle
        return f"model '{bundle.name}'{identity}, {len(bundle.label_space)} classes"

    def look_again(self) -> bool:
        """Return whether another graph or back end runs than before.

        This happens for an image of another size, or after a GPU failure. Only the thread that runs the model may call
        it.
        """
        before, self.running = self.running, Running.of(self.segmenter)
        return self.running != before

    def activated(self) -> None:
        """Start over and publish that no mask has gone out yet."""
        with self._lock:
            self._first_stamp = None
            self._publish_info(self, None)

    def announce(self) -> None:
        """Publish the information as it is, for a model that is in use before a frame comes."""
        with self._lock:
            self._publish_info(self, self._first_stamp)

    def before_masks(self, header: Any) -> None:
        """Publish the information if the masks with this `std_msgs/Header` are the first ones."""
        if self._first_stamp is None:
            with self._lock:
                self._first_stamp = (header.stamp.sec, header.stamp.nanosec)
                self._publish_info(self, self._first_stamp)


def describe_exchange(old: ServedModel, new: ServedModel, duration_s: float) -> str:
    """Return one sentence about a reload that took `duration_s` seconds."""
    before, now = old.segmenter.bundle.label_space, new.segmenter.bundle.label_space
    if before == now:
        classes = f"the label space '{now.name}' is the same"
    else:
        classes = f"the label space changed from '{before.name}' to '{now.name}', see ~/label_info"
    return f"{new.title}, serves after {duration_s:.1f} s; {classes}; {new.running}"
