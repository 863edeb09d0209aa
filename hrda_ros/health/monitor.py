"""Publishes diagnostics of each camera once a second, tells them to systemd, and warns when no image arrives."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.node import Node

from hrda_ros.frames.pipeline import Pipeline
from hrda_ros.frames.stamp_steps import StampSteps
from hrda_ros.health.diagnostics import (
    ERROR,
    OK,
    SILENT_AFTER_S,
    STALE,
    WARN,
    NodeReport,
    Throttle,
    assess,
    fill_status,
    hangs,
)
from hrda_ros.start.supervisor import Supervisor

__all__ = ["CameraWatch", "Monitor"]

_PERIOD_S = 1.0
_REMIND_AFTER_S = 30.0
_URGENCY = {OK: 0, WARN: 1, STALE: 2, ERROR: 3}


class CameraWatch:
    """Watches the input of one camera.

    Args:
        logger: of the camera.
        pipeline: pipeline whose rates are forgotten when stamps jump back.
        report: makes the report from (seconds since activation, seconds since the last image).
        explain_silence: text of the warning for so many seconds without an image; None = no warning now.

    Attributes:
        hangs: whether the back end hung at the last look.
    """

    def __init__(
        self,
        logger: Any,
        pipeline: Pipeline[Any],
        report: Callable[[float, float], NodeReport],
        explain_silence: Callable[[float], str | None],
    ) -> None:
        self.hangs = False
        self._logger = logger
        self._pipeline = pipeline
        self._report = report
        self._explain_silence = explain_silence
        self._active_since_s = self._last_image_s = time.monotonic()
        self._stamps = StampSteps()
        self._last_counts = pipeline.counts()
        self._problems = Throttle(SILENT_AFTER_S, time.monotonic)
        self._reminders = Throttle(_REMIND_AFTER_S, time.monotonic)

    def activated(self) -> None:
        """Note that the node starts to listen."""
        self._active_since_s = self._last_image_s = time.monotonic()
        self._stamps = StampSteps()
        self._reminders = Throttle(_REMIND_AFTER_S, time.monotonic)

    def saw_image(self, stamp_s: float) -> None:
        """Note that an image with this stamp arrived."""
        self._last_image_s = time.monotonic()
        back_s = self._stamps.back_s(stamp_s)
        if back_s:
            self._pipeline.reset_performance()
            self._logger.info(
                f"image stamps jumped back by {back_s:.1f} s (a bag that loops, or two clocks on one topic?): "
                "rates start over"
            )

    def saw_problem(self, outcome: str, cause: str, error: Exception) -> None:
        """Report that a frame was refused or has failed, at most every few seconds for each cause."""
        if not self._problems.due((outcome, cause)):
            return
        count = self._pipeline.counts().causes.get((outcome, cause), 0)
        text = f"frame {outcome} ({cause}, {count} so far): {error}"
        if outcome == "refused":
            self._logger.warning(text)
        else:
            self._logger.error(text)

    def saw_other_graph(self, text: str) -> None:
        """Report that another graph or back end runs, at most every few seconds (two cameras may share a topic)."""
        if self._problems.due("other graph"):
            self._logger.info(text)

    def look(self) -> DiagnosticStatus:
        """Return the diagnostics of now, and warn of silence."""
        now_s = time.monotonic()
        report = self._report(now_s - self._active_since_s, now_s - self._last_image_s)
        status = DiagnosticStatus()
        fill_status(status, KeyValue, report, assess(report, self._last_counts))
        self._last_counts = report.counts
        self.hangs = hangs(report)
        if report.state == "active" and report.silent_s >= SILENT_AFTER_S:
            self._warn_of_silence(report.silent_s)
        return status

    def _warn_of_silence(self, silent_s: float) -> None:
        if self._reminders.due("silence"):
            text = self._explain_silence(silent_s)
            if text:
                self._logger.warning(text)


class Monitor:
    """Publishes what is seen of the cameras of a node.

    Args:
        node: node that gets the diagnostics publisher and the timer.
        watches: one for each camera.
        supervisor: hears of the worst of them.
    """

    def __init__(self, node: Node, watches: Sequence[CameraWatch], supervisor: Supervisor) -> None:
        self._node = node
        self._supervisor = supervisor
        self._watches = watches
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        # A steady clock: with use_sim_time and no /clock, a timer on the node's clock would never fire.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_PERIOD_S, self._on_second, clock=steady)

    def _on_second(self) -> None:
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()  # what happened until then is counted
        message.status = [watch.look() for watch in self._watches]
        self._publisher.publish(message)
        worst = max(message.status, key=lambda status: _URGENCY[ord(status.level)])
        self._supervisor.look(worst.message, any(watch.hangs for watch in self._watches))
