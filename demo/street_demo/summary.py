"""The figures of one run as JSON and as a table: frames in and out, drops by cause, latency."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hrda_core.machine import cpu_model, usable_cores

__all__ = ["DROP_CAUSES", "Check", "Summary", "machine_description", "percentile_ms", "summarize", "table"]

DROP_CAUSES = ("stale", "superseded", "refused", "failed")
"""Why the node gives no mask for a frame; keys of its diagnostics, like `published`."""


@dataclass(frozen=True)
class Check:
    """One comparison of counts that must hold."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Summary:
    """The content of `summary.json`.

    Attributes:
        frames_in: number of frames that the camera published.
        published: number of masks that the node says it published.
        dropped: frames without a mask, by cause; `lost_on_the_way` never reached the node (best-effort delivery).
        recorded: number of masks in the new bag.
        latency_ms: from publishing a frame to receiving its mask: p50, p95, max.
        inference_ms_p50: median duration of an inference by the node's report; None if it gives none.
        backend: description of the back end.
        rate_hz: frames a second that the camera published.
        checks: comparisons of counts.
    """

    frames_in: int
    published: int
    dropped: dict[str, int]
    recorded: int
    latency_ms: dict[str, float]
    inference_ms_p50: float | None
    model: str
    backend: str
    rate_hz: float
    machine: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether all checks hold."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "passed": self.passed}


def summarize(
    *,
    played: Mapping[int, int],
    masks: Mapping[int, int],
    repeated: int,
    counters: Mapping[str, int],
    node_exit_code: int,
    inference_ms_p50: float | None,
    model: str,
    backend: str,
    rate_hz: float,
) -> Summary:
    """Put the figures together.

    Args:
        played, masks: stamp to time of publication and of arrival, both in nanoseconds of one clock.
        repeated: number of masks that came for a stamp that already had one.
        counters: the node's `published`, `stale`, `superseded`, `refused` and `failed`.
    """
    dropped = {cause: counters[cause] for cause in DROP_CAUSES}
    reached_node = counters["published"] + sum(dropped.values())
    dropped["lost_on_the_way"] = len(played) - reached_node
    latencies = [(masks[stamp] - played[stamp]) / 1e6 for stamp in masks if stamp in played]
    return Summary(
        frames_in=len(played),
        published=counters["published"],
        dropped=dropped,
        recorded=len(masks),
        latency_ms={
            "p50": percentile_ms(latencies, 50),
            "p95": percentile_ms(latencies, 95),
            "max": percentile_ms(latencies, 100),
        },
        inference_ms_p50=inference_ms_p50,
        model=model,
        backend=backend,
        rate_hz=round(rate_hz, 3),
        machine=machine_description(),
        checks=_checks(played, masks, repeated, counters["published"], reached_node, node_exit_code),
    )


def percentile_ms(values: Sequence[float], percent: float) -> float:
    """Compute a percentile with linear interpolation, rounded to 0.01; NaN without values."""
    return round(float(np.percentile(values, percent)), 2) if values else float("nan")


def machine_description() -> str:
    """Return processor, cores that this process may use, and operating system."""
    return f"{cpu_model()}, {usable_cores()} cores, {platform.system()}, Python {platform.python_version()}"


def table(summary: Summary) -> str:
    """Return the summary for people, in two columns."""
    latency = summary.latency_ms
    inference = "not reported" if summary.inference_ms_p50 is None else f"{summary.inference_ms_p50:.1f} ms (p50)"
    rows = [
        ("model", summary.model),
        ("back end", summary.backend),
        ("machine", summary.machine),
        ("camera rate", f"{summary.rate_hz:.1f} Hz"),
        ("frames in", str(summary.frames_in)),
        ("masks published", str(summary.published)),
        *((f"dropped, {cause.replace('_', ' ')}", str(count)) for cause, count in summary.dropped.items()),
        ("masks recorded", str(summary.recorded)),
        ("camera to mask", f"p50 {latency['p50']:.1f} ms, p95 {latency['p95']:.1f} ms, max {latency['max']:.1f} ms"),
        ("inference in the node", inference),
        *(("check", f"{'ok  ' if check.passed else 'FAIL'} {check.name}: {check.detail}") for check in summary.checks),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def _checks(
    played: Mapping[int, int],
    masks: Mapping[int, int],
    repeated: int,
    published: int,
    reached_node: int,
    node_exit_code: int,
) -> tuple[Check, ...]:
    strangers = len(masks.keys() - played.keys())
    return (
        Check("in = out", 0 <= reached_node <= len(played),
              f"the node accounts for {reached_node} of {len(played)} frames played"),
        Check("published = recorded", published == len(masks), f"{published} and {len(masks)}"),
        Check("every mask has its frame", strangers == 0 and repeated == 0,
              f"{strangers} with a foreign stamp, {repeated} twice"),
        Check("the node ended cleanly", node_exit_code == 0, f"exit code {node_exit_code}"),
    )  # fmt: skip
