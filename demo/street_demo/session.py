"""One run: node, recorder and player as processes of their own on a private ROS graph, watched to the end."""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from street_demo.children import Child, ChildGroup
from street_demo.environment import child_environment
from street_demo.errors import ChildFailedError, DemoError
from street_demo.events import Event
from street_demo.interruption import Interruption
from street_demo.paths import DEMO, FASTDDS_PROFILE
from street_demo.progress import Progress
from street_demo.recording import Recording
from street_demo.summary import DROP_CAUSES

__all__ = ["SessionPlan", "SessionRecord", "run_session"]

NODE = "segment_node"
START_TIMEOUT_S = 60.0
SILENCE_S = 3.0
"""After the last frame, this long without a new mask means that no more will come."""
LAST_REPORTS = 3
"""The first report after the last mask may have been made before it. Frames that no later one counts were lost."""
POLL_S = 0.1
DIAGNOSTIC_ERROR = 2  # diagnostic_msgs/DiagnosticStatus.ERROR


@dataclass(frozen=True)
class SessionPlan:
    """The frames to play, and the model.

    Attributes:
        frames: number of frames that will be played.
        max_frames: limit that the player gets; None = all.
    """

    recording: Recording
    model: Path
    rate_hz: float
    frames: int
    max_frames: int | None


@dataclass
class SessionRecord:
    """What happened. Times are `time.monotonic_ns()` by header stamp.

    Attributes:
        played: when the player published each frame.
        masks: when the recorder received each mask.
        repeated: number of masks that came for a stamp that already had one.
        diagnostics: the node's last report, all key-values of its statuses.
        node_error: complaint of the node in its last report; empty if all is well.
        label_info: the latched description of the classes.
        node_exit_code: exit code of the node when it was asked to end.
    """

    played: dict[int, int] = field(default_factory=dict)
    masks: dict[int, int] = field(default_factory=dict)
    repeated: int = 0
    diagnostics: dict[str, str] = field(default_factory=dict)
    node_error: str = ""
    label_info: dict[str, Any] = field(default_factory=dict)
    node_exit_code: int = 0
    ended: bool = False
    reports: int = 0

    def counted(self) -> bool:
        """Return whether the node's last report counts all masks received, and an outcome for all frames played."""
        published, *dropped = (int(self.diagnostics.get(name, 0)) for name in ("published", *DROP_CAUSES))
        return published >= len(self.masks) and published + sum(dropped) >= len(self.played)

    def note(self, event: Event) -> None:
        """Take in an event of the player or the recorder."""
        kind = event["event"]
        if kind == "frame":
            self.played[event["stamp"]] = event["time_ns"]
        elif kind == "mask":
            self.repeated += event["stamp"] in self.masks
            self.masks.setdefault(event["stamp"], event["time_ns"])
        elif kind == "diagnostics":
            self.diagnostics.update(event["values"])
            self.node_error = event["message"] if event["level"] == DIAGNOSTIC_ERROR else ""
            self.reports += 1
        elif kind == "ready":
            self.label_info = json.loads(event["label_info"])
        elif kind == "end":
            self.ended = True


def run_session(plan: SessionPlan, work: Path, progress: Progress, interruption: Interruption) -> SessionRecord:
    """Play the recording through the node. Leaves `masks/` and `overlay/` (bags) and `logs/` in `work`.

    Raises:
        DemoError, ChildFailedError: a process cannot start or ended early.
        Interrupted: the user asked to stop; all processes are gone by then.
    """
    if not FASTDDS_PROFILE.is_file():
        raise DemoError(f"the Fast DDS profile '{FASTDDS_PROFILE}' is missing; check out the whole repository")
    logs = work / "logs"
    logs.mkdir()
    with ChildGroup(child_environment(logs / "ros", FASTDDS_PROFILE), logs) as children:
        return _Session(plan, work, children, progress, interruption).run()


class _Session:
    def __init__(
        self, plan: SessionPlan, work: Path, children: ChildGroup, progress: Progress, interruption: Interruption
    ) -> None:
        self._plan = plan
        self._work = work
        self._children = children
        self._progress = progress
        self._interruption = interruption
        self._record = SessionRecord()

    def run(self) -> SessionRecord:
        plan, record, children = self._plan, self._record, self._children
        self._progress.stage("starting the segmentation node and the recorder")
        node = children.start("segmentation node", _node_command(plan))
        recorder = children.start("recorder", _recorder_command(self._work))
        self._wait("the recorder hears the node", lambda: bool(record.label_info), START_TIMEOUT_S)
        self._progress.stage(f"playing {plan.frames} frames at {plan.rate_hz:.1f} Hz from {plan.recording.path.name}")
        children.start("player", _player_command(plan))
        self._wait("the first frame is played", lambda: bool(record.played), START_TIMEOUT_S)
        self._wait("the last frame is played", lambda: record.ended, plan.frames / plan.rate_hz + START_TIMEOUT_S)
        self._settle()
        self._progress.count(self._counter(), last=True)
        self._stop(recorder)
        record.node_exit_code = children.stop(node)
        return record

    def _settle(self) -> None:
        """Wait for the masks still under way, then for a report that counts every frame that was not lost."""
        record = self._record
        last_change = time.monotonic()
        received = -1
        while len(record.masks) < len(record.played) and time.monotonic() - last_change < SILENCE_S:
            if received != len(record.masks):
                received, last_change = len(record.masks), time.monotonic()
            self._take_events()
        last = record.reports + LAST_REPORTS
        self._wait(
            "the node reports its diagnostics", lambda: record.counted() or record.reports >= last, START_TIMEOUT_S
        )

    def _stop(self, recorder: Child) -> None:
        if exit_code := self._children.stop(recorder):
            raise ChildFailedError(f"the recorder ended with exit code {exit_code}; its log:\n{recorder.tail()}")

    def _wait(self, until: str, reached: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not reached():
            if time.monotonic() > deadline:
                raise ChildFailedError(f"waited {timeout_s:.0f} s in vain until {until}; see docs/robot/demo.md")
            self._take_events()

    def _take_events(self) -> None:
        """Note what has come, look after the processes, show the counter."""
        self._interruption.check()
        self._children.check()
        # Once frames are played, trouble with single ones is for the counters.
        if self._record.node_error and not self._record.played:
            raise ChildFailedError(f"the segmentation node reports an error: {self._record.node_error}")
        try:
            self._record.note(self._children.events.get(timeout=POLL_S))
            while True:
                self._record.note(self._children.events.get_nowait())
        except queue.Empty:
            pass
        if self._record.played:
            self._progress.count(self._counter())

    def _counter(self) -> str:
        return f"{len(self._record.played)}/{self._plan.frames} frames played, {len(self._record.masks)} masks received"


def _node_command(plan: SessionPlan) -> list[str]:
    script = Path(sys.executable).with_name(NODE)
    start = [str(script)] if script.is_file() else [sys.executable, "-m", "hrda_ros"]
    topic = plan.recording.topic.removesuffix("/compressed")
    return [
        *start, "--ros-args", "-r", f"image:={topic}", "-p", f"model:={plan.model.absolute()}",
        "-p", "image_transport:=compressed",
    ]  # fmt: skip


def _recorder_command(work: Path) -> list[str]:
    script = str(DEMO / "record_masks.py")
    return [sys.executable, script, "--masks", str(work / "masks"), "--overlay", str(work / "overlay"), "--node", NODE]


def _player_command(plan: SessionPlan) -> list[str]:
    limit = [] if plan.max_frames is None else ["--max-frames", str(plan.max_frames)]
    script = str(DEMO / "play_bag.py")
    return [
        sys.executable, script, str(plan.recording.path), "--rate", str(plan.rate_hz), "--node", NODE, *limit,
    ]  # fmt: skip
