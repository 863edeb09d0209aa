"""The inputs of a node that places masks in space: masks and what belongs to them, paired by exact stamp, on demand.

It also reports on them, in the log, in `/diagnostics` and to systemd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType  # type: ignore[attr-defined]
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.qos_overriding_options import QoSOverridingOptions
from std_msgs.msg import String

from hrda_core.errors import LabelSpaceError, reason_of
from hrda_core.labels import LabelSpace
from hrda_ros.frames.stamp_sets import StampSets, stamp_of
from hrda_ros.space.classes import ServedClasses
from hrda_ros.space.tally import Tally
from hrda_ros.start.supervisor import Supervisor

__all__ = ["MaskInputs"]

FOLLOW_S = 0.5
"""Seconds between two looks whether anybody subscribes to the outputs."""

REPORT_S = 1.0
"""Seconds between two messages on `/diagnostics`."""

WATCH_S = 5.0
"""Seconds without a set of messages after which the log says why, and between two warnings of a kind."""


class MaskInputs:
    """Subscriptions that exist while the outputs are subscribed to, so that an idle node keeps nobody busy.

    Args:
        node: the node; the topics are relative to its namespace.
        types: message types by topic; one topic is `labels`.
        handle: called with the messages of one stamp by topic, and the classes of the mask. What it returns is a doubt
            about what it has published, or empty. What it raises is a warning in the log, and the next set is served.
        outputs: publishers of the outputs.
        keep: messages of a topic that wait for those of the others, at most.
    """

    def __init__(
        self,
        node: Node,
        types: Mapping[str, Any],
        handle: Callable[[Mapping[str, Any], LabelSpace], str],
        outputs: list[Any],
        keep: int,
    ) -> None:
        self._node, self._types, self._handle, self._outputs = node, types, handle, outputs
        self._sets = StampSets(types, keep)
        self._classes = ServedClasses()
        self._refused_info = ""
        self._listened = False
        self._subscriptions: list[Any] = []
        self._tally = Tally()
        self._supervisor = Supervisor()
        self._diagnostics = node.create_publisher(DiagnosticArray, "/diagnostics", 1)
        latched = QoSProfile(
            depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
        )
        node.create_subscription(String, "label_info", self._on_label_info, latched)
        # A steady clock: with use_sim_time and no /clock, a timer on the node's clock would never fire.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(FOLLOW_S, self._follow_subscribers, clock=steady)
        node.create_timer(WATCH_S, self._watch, clock=steady)
        node.create_timer(REPORT_S, self._publish_report, clock=steady)

    def _follow_subscribers(self) -> None:
        wanted = any(output.get_subscription_count() for output in self._outputs)
        if wanted and not self._subscriptions:
            self._classes.settle()
            self._subscriptions = [self._subscribe(name, kind) for name, kind in self._types.items()]
            self._listened = False
        elif not wanted and self._subscriptions:
            while self._subscriptions:
                self._node.destroy_subscription(self._subscriptions.pop())
            self._sets.clear()

    def _subscribe(self, name: str, kind: Any) -> Any:
        return self._node.create_subscription(
            kind,
            name,
            lambda message: self._on_message(name, message),
            qos_profile_sensor_data,
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _on_message(self, name: str, message: Any) -> None:
        stamp = stamp_of(message.header)
        complete = self._sets.offer(name, stamp, message)
        if complete is None:
            return
        space = self._classes.at(stamp)
        if space is None:
            self._leave_out(
                self._refused_info or "masks come, but no label_info; remap label_info to that of segment_node"
            )
            return
        try:
            doubt = self._handle(complete, space)
        except Exception as error:  # also of a message that nobody thought of: it must not end the node
            self._leave_out(reason_of(error))
        else:
            old = f"with the classes of before: {self._refused_info}" if self._refused_info else ""
            self._tally.doubt = old or doubt
            self._tally.place()

    def _leave_out(self, reason: str) -> None:
        self._tally.leave_out(reason)
        self._warn(reason)

    def _on_label_info(self, message: String) -> None:
        try:
            self._classes.offer(message.data)
            self._refused_info = ""
        except LabelSpaceError as error:
            self._refused_info = reason_of(error)
            self._node.get_logger().warning(self._refused_info, throttle_duration_sec=WATCH_S)

    def _watch(self) -> None:
        reason = self._sets.look_back()
        # Whoever has begun to listen since the last look has not heard long enough to call anything silent.
        listened, self._listened = self._listened and self._subscriptions, True
        self._tally.silence = reason if listened else ""
        if self._tally.silence:
            topics = ", ".join(self._node.resolve_topic_name(name) for name in self._types)
            self._node.get_logger().warning(f"nothing to publish for {WATCH_S:g} s: {reason} (topics {topics})")

    def _publish_report(self) -> None:
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()  # what happened until then is counted
        status = DiagnosticStatus(name=f"{self._node.get_fully_qualified_name()[1:]}: masks")
        level, status.message = self._tally.verdict(bool(self._subscriptions))
        status.level = bytes([level])
        values = {"placed": self._tally.placed, "left_out": self._tally.left_out}
        values |= {f"waiting/{name}": count for name, count in self._sets.waiting().items()}
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        message.status = [status]
        self._diagnostics.publish(message)
        self._supervisor.look(status.message, hangs=False)

    def _warn(self, text: str) -> None:
        self._node.get_logger().warning(text, throttle_duration_sec=WATCH_S)
