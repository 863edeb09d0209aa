"""Judges the state of the node and reports it as `diagnostic_msgs`. Needs no rclpy.

The level is the first of these that applies:

    ERROR   configuring failed, a frame takes longer than `timeout_s`, frames fail and none is published, the last ten
            have failed, or every message has been refused for 3 s
    WARN    the node is not active, some frames fail, messages are refused, the last reload failed, no plan keeps the
            latency budget, or there are fewer masks than `expected_rate`, or none
    STALE   the node is active, but no image has come for 5 s
    OK      masks go out, nobody asks for them (`lazy`), or `~/enable` has switched them off
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from hrda_ros.frames.pipeline import OUTCOMES, Counts, Performance
from hrda_ros.health.resources import UNKNOWN, Resources
from hrda_ros.model.plan_steps import NO_BUDGET, BudgetReport

__all__ = [
    "BLIND_AFTER_S",
    "ERROR",
    "OK",
    "SILENT_AFTER_S",
    "STALE",
    "WARN",
    "NodeReport",
    "Throttle",
    "assess",
    "fill_status",
    "hangs",
]

OK, WARN, ERROR, STALE = range(4)  # as in diagnostic_msgs/DiagnosticStatus

SILENT_AFTER_S = 5.0
"""Without an image for so long, the input counts as silent, seconds."""

BLIND_AFTER_S = 3.0
"""If every message is refused for so long, the camera counts as blind, seconds."""

_RATE_TOLERANCE = 0.9

_SLOWER = 5
"""A frame may take so many times as long as 95 % of the last ones."""

_ROW_OF_FAILURES = 10
"""So many frames that fail one after the other are an error, whatever went out in the same second."""


@dataclass(frozen=True)
class NodeReport:
    """The state of the node at one moment.

    Attributes:
        name: fully qualified node name.
        topic: resolved input topic; empty before the first configure.
        state: lifecycle state.
        model, model_id, backend, plan, graph: what runs; empty while unconfigured.
        counts, performance: figures of the pipeline.
        active_s: seconds since activation.
        silent_s: seconds since the last image, or since activation.
        expected_hz: masks a second that the user expects; 0 = none.
        last_error: error that ended the last transition; empty if it went well.
        reloads: how often a model was exchanged on the running node.
        reload_error: why the last reload failed; empty if it went well.
        frame_error: error of the last frame that failed; empty if none has.
        refusal: why the last message that was refused cannot be used; empty if none was.
        timeout_s: a frame that takes longer counts as hanging, seconds; 0 = none does.
        enabled: whether frames are worked on, see `~/enable`.
        budget: how a latency budget is kept.
        resources: what the process holds.
    """

    name: str
    topic: str
    state: str
    model: str
    model_id: str
    backend: str
    plan: str
    graph: str
    counts: Counts
    performance: Performance
    active_s: float
    silent_s: float
    expected_hz: float
    last_error: str
    reloads: int
    reload_error: str
    frame_error: str
    refusal: str
    timeout_s: float = 0.0
    enabled: bool = True
    budget: BudgetReport = NO_BUDGET
    resources: Resources = UNKNOWN


def assess(report: NodeReport, before: Counts) -> tuple[int, str]:
    """Return the level and a message of one line.

    Args:
        report: state of the node now.
        before: the counters at the last assessment.
    """
    now, speed = report.counts, report.performance
    published, failed = now.published - before.published, now.failed - before.failed
    if report.last_error:
        return ERROR, report.last_error
    if report.state != "active":
        return WARN, f"not active ({report.state})"
    if hangs(report):
        return (
            ERROR,
            f"the back end has not come back with a frame for {speed.busy_s:.0f} s; it hangs or is far too slow",
        )
    row = now.failed_in_a_row
    if failed:
        causes = _causes(now, before, "failed")
        level = WARN if published and row < _ROW_OF_FAILURES else ERROR
        return level, f"{failed} frame(s) failed ({causes}): {report.frame_error}"
    if row >= _ROW_OF_FAILURES and report.silent_s < SILENT_AFTER_S and now.stale == before.stale:
        return ERROR, f"the last {row} frames failed: {report.frame_error}"
    if report.silent_s >= SILENT_AFTER_S:
        return STALE, f"no image on {report.topic} for {report.silent_s:.0f} s"
    if speed.refused_s >= BLIND_AFTER_S:
        causes = _causes(now, before, "refused")
        named = f" ({causes})" if causes else ""
        return ERROR, f"every message has been refused for {speed.refused_s:.0f} s{named}: {report.refusal}"
    if now.refused > before.refused:
        return WARN, f"{now.refused - before.refused} message(s) refused: {_causes(now, before, 'refused')}"
    if report.reload_error:
        return WARN, f"the last reload failed, '{report.model}' goes on serving: {report.reload_error}"
    if not report.enabled:
        return OK, "switched off (~/enable)"
    if not published and now.stale > before.stale:
        return OK, f"idle: {_causes(now, before, 'stale')}"
    if report.budget.over_s:
        return WARN, (
            f"plan '{report.plan}' takes {1e3 * report.budget.over_s:.0f} ms, the budget is "
            f"{1e3 * report.budget.budget_s:.0f} ms (latency_budget_ms), and there is no cheaper plan"
        )
    too_slow = report.expected_hz > 0 and speed.published_hz < _RATE_TOLERANCE * report.expected_hz
    if too_slow and report.active_s > SILENT_AFTER_S:
        return WARN, f"{speed.published_hz:.1f} masks a second, expected {report.expected_hz:g}"
    if not published and speed.published_hz == 0:
        if now.received == before.received or report.active_s <= SILENT_AFTER_S:
            return OK, "waiting for images"
        return WARN, "images come in and no mask goes out"
    return OK, f"{speed.published_hz:.1f} masks a second"


def hangs(report: NodeReport) -> bool:
    """Return whether a frame takes longer than `timeout_s`, and much longer than those before it."""
    return report.state == "active" and report.performance.busy_s > _patience_s(report) > 0


def _patience_s(report: NodeReport) -> float:
    """How long a frame may take; a model that is always slow does not hang."""
    usual_s = report.performance.latency_s.get("infer", (0.0, 0.0))[1]
    return max(report.timeout_s, _SLOWER * usual_s) if report.timeout_s else 0.0


def _causes(now: Counts, before: Counts, outcome: str) -> str:
    grown = [
        cause
        for (kind, cause), count in now.causes.items()
        if kind == outcome and count > before.causes.get((kind, cause), 0)
    ]
    return ", ".join(sorted(grown))


def fill_status(status: Any, new_value: Callable[[], Any], report: NodeReport, verdict: tuple[int, str]) -> None:
    """Fill a `diagnostic_msgs/DiagnosticStatus`.

    Args:
        status: the message.
        new_value: makes an empty `diagnostic_msgs/KeyValue`.
        report: state of the node now.
        verdict: level and message from `assess`.
    """
    level, status.message = verdict
    status.level = bytes([level])
    status.name = f"{report.name.lstrip('/')}: {report.topic}"
    status.hardware_id = report.model
    status.values = []
    for key, text in _values(report).items():
        value = new_value()
        value.key, value.value = key, text
        status.values.append(value)


def _values(report: NodeReport) -> dict[str, str]:
    speed, counts = report.performance, report.counts
    values = {
        "state": report.state,
        "enabled": str(report.enabled).lower(),
        "model": report.model,
        "model_id": report.model_id,
        "backend": report.backend,
        "plan": report.plan,
        "plan_reason": report.budget.reason,
        "plan_switches": str(report.budget.switches),
        "latency_budget_ms": f"{1e3 * report.budget.budget_s:g}",
        "graph": report.graph,
        "reloads": str(report.reloads),
        "reload_error": report.reload_error,
        "frame_error": report.frame_error,
        "refusal": report.refusal,
        "received": str(counts.received),
        **{outcome: str(getattr(counts, outcome)) for outcome in OUTCOMES},
        "in_flight": str(counts.in_flight),
        **{f"{outcome}/{cause}": str(count) for (outcome, cause), count in sorted(counts.causes.items())},
        "received_hz": f"{speed.received_hz:.2f}",
        "published_hz": f"{speed.published_hz:.2f}",
        "expected_hz": f"{report.expected_hz:g}",
    }
    for step in ("wait", "decode", "infer", "publish", "total", "age"):
        p50, p95 = speed.latency_s.get(step, (None, None))
        values[f"{step}_ms_p50"] = "n/a" if p50 is None else f"{1e3 * p50:.1f}"
        values[f"{step}_ms_p95"] = "n/a" if p95 is None else f"{1e3 * p95:.1f}"
    return values | _resources(report.resources)


def _resources(resources: Resources) -> dict[str, str]:
    gpu = resources.gpu
    figures = {
        "resident_mb": resources.resident,
        "descriptors": resources.descriptors,
        "threads": resources.threads,
        "gpu_process_mb": gpu.process,
        "gpu_used_mb": gpu.used,
        "gpu_total_mb": gpu.total,
    }
    return {name: "n/a" if value is None else f"{value:.0f}" for name, value in figures.items()}


class Throttle:
    """Lets the same key through at most once in a period.

    Args:
        period_s: shortest time between two of the same key, seconds.
        clock: monotonic seconds.
    """

    def __init__(self, period_s: float, clock: Callable[[], float]) -> None:
        self._period_s = period_s
        self._clock = clock
        self._last: dict[Hashable, float] = {}

    def due(self, key: Hashable) -> bool:
        """Return whether `key` may pass now; if so, its waiting time starts again."""
        now = self._clock()
        if now - self._last.get(key, float("-inf")) < self._period_s:
            return False
        self._last[key] = now
        return True
