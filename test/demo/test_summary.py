"""The figures that the demo reports add up."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from street_demo.errors import ChildFailedError
from street_demo.node_report import NodeReport
from street_demo.summary import Summary, percentile_ms, summarize, table

MS = 1_000_000
COUNTERS = {"published": 3, "stale": 0, "superseded": 1, "refused": 0, "failed": 0}


def made_summary(**changes: Any) -> Summary:
    values: dict[str, Any] = {
        "played": dict.fromkeys(range(5), 0),
        "masks": {0: 10 * MS, 1: 20 * MS, 3: 30 * MS},
        "repeated": 0,
        "counters": COUNTERS,
        "node_exit_code": 0,
        "inference_ms_p50": 7.5,
        "model": "tiny",
        "backend": "onnx",
        "rate_hz": 10.0,
    }
    return summarize(**{**values, **changes})


def failed_checks(summary: Summary) -> list[str]:
    return [check.name for check in summary.checks if not check.passed]


def test_every_frame_is_accounted_for() -> None:
    summary = made_summary()
    assert summary.frames_in == summary.published + sum(summary.dropped.values())
    assert summary.dropped == {"stale": 0, "superseded": 1, "refused": 0, "failed": 0, "lost_on_the_way": 1}
    assert summary.passed


def test_latency_is_from_publishing_a_frame_to_its_own_mask() -> None:
    summary = made_summary(played={0: 4 * MS, 1: 5 * MS, 3: 6 * MS, 4: 0})
    assert summary.latency_ms == {"p50": 15.0, "p95": pytest.approx(23.1), "max": 24.0}


def test_percentile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(percentile_ms([], 50))


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"masks": {0: MS, 1: MS}}, ["published = recorded"]),
        ({"masks": {0: MS, 1: MS, 99: MS}}, ["every mask has its frame"]),
        ({"repeated": 1}, ["every mask has its frame"]),
        ({"counters": {**COUNTERS, "superseded": 9}}, ["in = out"]),
        ({"node_exit_code": 1}, ["the node ended cleanly"]),
    ],
)
def test_counts_that_disagree_are_told(changes: dict[str, Any], failed: list[str]) -> None:
    summary = made_summary(**changes)
    assert failed_checks(summary) == failed
    assert "FAIL" in table(summary)
    assert not summary.to_dict()["passed"]


def test_summary_is_plain_json() -> None:
    assert json.loads(json.dumps(made_summary().to_dict()))["model"] == "tiny"


def test_table_names_every_cause_and_both_percentiles() -> None:
    text = table(made_summary())
    for part in ("stale", "superseded", "refused", "failed", "lost on the way", "p50", "p95", "tiny", "onnx"):
        assert part in text


def test_node_report_reads_counters_and_inference_time() -> None:
    values = {**{name: str(count) for name, count in COUNTERS.items()}, "backend": "onnx", "infer_ms_p50": "7.5"}
    report = NodeReport.read(values)
    assert (report.counters, report.backend, report.inference_ms_p50) == (COUNTERS, "onnx", 7.5)
    assert NodeReport.read({**values, "infer_ms_p50": "n/a"}).inference_ms_p50 is None


def test_node_report_without_a_counter_is_an_error() -> None:
    with pytest.raises(ChildFailedError, match="published"):
        NodeReport.read({})
