"""Publishes diagnostics once a second, and warns when no image arrives."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.node import Node

from hrda_ros.diagnostics import SILENT_AFTER_S, NodeReport, Throttle, assess, fill_status
from hrda_ros.pipeline import Pipeline

__all__ = ["Monitor"]

_PERIOD_S = 1.0
_REMIND_AFTER_S = 30.0

_STEP_BACK_S = 0.5
"""Stamps of two cameras on one topic may interleave; a bag that starts over jumps back further. Seconds."""


class Monitor:
    """Watches the input and reports.

    Args:
        node: node that gets the diagnostics publisher and the timer.
        pipeline: pipeline whose rates are forgotten when stamps jump back.
        report: makes the report from (seconds since activation, seconds since the last image).
        explain_silence: text of the warning for so many seconds without an image; None = no warning now.
    """

    def __init__(
        self,
        node: Node,
        pipeline: Pipeline[Any],
        report: Callable[[float, float], NodeReport],
        explain_silence: Callable[[float], str | None],
    ) -> None:
        self._node = node
        self._pipeline = pipeline
        self._report = report
        self._explain_silence = explain_silence
        self._active_since_s = self._last_image_s = time.monotonic()
        self._last_stamp_s = float("-inf")
        self._last_counts = pipeline.counts()
        self._problems = Throttle(SILENT_AFTER_S, time.monotonic)
        self._reminders = Throttle(_REMIND_AFTER_S, time.monotonic)
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        # A steady clock: with use_sim_time and no /clock, a timer on the node's clock would never fire.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(_PERIOD_S, self._on_second, clock=steady)

    def activated(self) -> None:
        """Note that the node starts to listen."""
        self._active_since_s = self._last_image_s = time.monotonic()
        self._last_stamp_s = float("-inf")
        self._reminders = Throttle(_REMIND_AFTER_S, time.monotonic)

    def saw_image(self, stamp_s: float) -> None:
        """Note that an image with this stamp arrived."""
        self._last_image_s = time.monotonic()
        if stamp_s < self._last_stamp_s - _STEP_BACK_S:
            back_s = self._last_stamp_s - stamp_s
            self._pipeline.reset_performance()
            self._node.get_logger().info(
                f"image stamps jumped back by {back_s:.1f} s (a bag that loops?): rates start over"
            )
        self._last_stamp_s = stamp_s

    def saw_problem(self, outcome: str, cause: str, error: Exception) -> None:
        """Report that a frame was refused or has failed, at most every few seconds for each cause."""
        if not self._problems.due((outcome, cause)):
            return
        count = self._pipeline.counts().causes.get((outcome, cause), 0)
        text = f"frame {outcome} ({cause}, {count} so far): {error}"
        if outcome == "refused":
            self._node.get_logger().warning(text)
        else:
            self._node.get_logger().error(text)

    def saw_other_graph(self, text: str) -> None:
        """Report that another graph or back end runs, at most every few seconds (two cameras may share a topic)."""
        if self._problems.due("other graph"):
            self._node.get_logger().info(text)

    def _on_second(self) -> None:
        now_s = time.monotonic()
        report = self._report(now_s - self._active_since_s, now_s - self._last_image_s)
        status = DiagnosticStatus()
        fill_status(status, KeyValue, report, assess(report, self._last_counts))
        self._last_counts = report.counts
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
        if report.state == "active" and report.silent_s >= SILENT_AFTER_S:
            self._warn_of_silence(report.silent_s)

    def _warn_of_silence(self, silent_s: float) -> None:
        if self._reminders.due("silence"):
            text = self._explain_silence(silent_s)
            if text:
                self._node.get_logger().warning(text)
