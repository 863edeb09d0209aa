"""Levels and values of the diagnostics, without ROS."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hrda_ros.frames.pipeline import Counts, Performance
from hrda_ros.health.diagnostics import ERROR, OK, STALE, WARN, NodeReport, Throttle, assess, fill_status
from hrda_ros.health.resources import GpuMemory, Resources
from hrda_ros.model.plan_steps import BudgetReport

NOTHING = Counts(0, 0, 0, 0, 0, 0, 0, {})
GOOD = NodeReport(
    name="/front/segment_node",
    topic="/front/image",
    state="active",
    model="tiny",
    model_id="0123456789ab",
    backend="onnxruntime",
    plan="tiles",
    graph="480x640, fp16",
    counts=replace(NOTHING, received=10, published=10),
    performance=Performance(30.0, 9.5, {"total": (0.1, 0.2)}),
    active_s=100.0,
    silent_s=0.1,
    expected_hz=10.0,
    last_error="",
    reloads=2,
    reload_error="",
    frame_error="no graph is for this",
    refusal="encoding 'x' is not known",
)
HANGS = "the back end has not come back with a frame for {} s; it hangs or is far too slow"
IDLE = {"performance": Performance(0.0, 0.0, {}), "expected_hz": 0.0}
BLIND = Performance(30.0, 0.0, {}, refused_s=8.0)
OVER_BUDGET = "plan 'tiles' takes 300 ms, the budget is 100 ms (latency_budget_ms), and there is no cheaper plan"
BLIND_TEXT = "every message has been refused for 8 s{}: encoding 'x' is not known"


def counted(**changes: Any) -> Counts:
    causes = {(name, "cause"): count for name, count in changes.items() if name in ("stale", "refused", "failed")}
    return replace(NOTHING, **changes, causes=causes)


def _at_work(busy_s: float, **latency_s: tuple[float, float]) -> dict[str, Any]:
    """The worker has been at a frame for so long."""
    return {"performance": Performance(9.0, 0.3, latency_s, busy_s=busy_s), "timeout_s": 1.0, "expected_hz": 0.0}


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, OK, "9.5 masks a second"),
        ({"last_error": "cannot configure: no model"}, ERROR, "cannot configure: no model"),
        ({"state": "inactive"}, WARN, "not active (inactive)"),
        ({"counts": counted(failed=3)}, ERROR, "3 frame(s) failed (cause): no graph is for this"),
        ({"counts": counted(failed=3, published=1)}, WARN, "3 frame(s) failed (cause): no graph is for this"),
        (
            {"counts": counted(failed=9, published=1, failed_in_a_row=9)},
            WARN,
            "9 frame(s) failed (cause): no graph is for this",
        ),
        (
            {"counts": counted(failed=10, published=1, failed_in_a_row=10)},
            ERROR,
            "10 frame(s) failed (cause): no graph is for this",
        ),
        ({"counts": counted(failed_in_a_row=12)}, ERROR, "the last 12 frames failed: no graph is for this"),
        ({"counts": counted(failed_in_a_row=12), "silent_s": 7.0}, STALE, "no image on /front/image for 7 s"),
        ({"counts": counted(failed_in_a_row=12, stale=4)}, OK, "idle: cause"),
        (_at_work(1.5), ERROR, HANGS.format(2)),
        (_at_work(40.0) | {"silent_s": 7.0}, ERROR, HANGS.format(40)),
        (_at_work(0.9), OK, "0.3 masks a second"),
        (_at_work(19.0, infer=(3.0, 4.0)), OK, "0.3 masks a second"),
        (_at_work(21.0, infer=(3.0, 4.0)), ERROR, HANGS.format(21)),
        (_at_work(99.0) | {"timeout_s": 0.0}, OK, "0.3 masks a second"),
        (IDLE | {"counts": counted(received=3)}, WARN, "images come in and no mask goes out"),
        (IDLE | {"counts": counted(received=3), "active_s": 2.0}, OK, "waiting for images"),
        (IDLE | {"counts": counted()}, OK, "waiting for images"),
        ({"silent_s": 7.0}, STALE, "no image on /front/image for 7 s"),
        ({"counts": counted(refused=2, published=5)}, WARN, "2 message(s) refused: cause"),
        (
            {"counts": counted(refused=2), "performance": replace(BLIND, refused_s=2.9)},
            WARN,
            "2 message(s) refused: cause",
        ),
        ({"counts": counted(refused=2), "performance": BLIND}, ERROR, BLIND_TEXT.format(" (cause)")),
        ({"counts": counted(superseded=2), "performance": BLIND}, ERROR, BLIND_TEXT.format("")),
        ({"counts": NOTHING, "performance": BLIND, "silent_s": 7.0}, STALE, "no image on /front/image for 7 s"),
        ({"reload_error": "no folder"}, WARN, "the last reload failed, 'tiny' goes on serving: no folder"),
        ({"counts": counted(stale=4)}, OK, "idle: cause"),
        ({"budget": BudgetReport(0.1, "as it is", 3, 0.3)}, WARN, OVER_BUDGET),
        ({"budget": BudgetReport(0.1, "as it is", 3)}, OK, "9.5 masks a second"),
        ({"counts": counted(stale=4), "enabled": False}, OK, "switched off (~/enable)"),
        ({"counts": counted(stale=4), "enabled": False, "silent_s": 7.0}, STALE, "no image on /front/image for 7 s"),
        ({"counts": counted(stale=4, published=5)}, OK, "9.5 masks a second"),
        ({"counts": counted(stale=4, published=5), "expected_hz": 12.0}, WARN, "9.5 masks a second, expected 12"),
        ({"expected_hz": 12.0}, WARN, "9.5 masks a second, expected 12"),
        ({"expected_hz": 12.0, "active_s": 1.0}, OK, "9.5 masks a second"),
        ({"expected_hz": 0.0}, OK, "9.5 masks a second"),
    ],
)
def test_p7_l2_l4_the_level_says_what_is_wrong_first(changes: dict[str, Any], level: int, text: str) -> None:
    assert assess(replace(GOOD, **changes), NOTHING) == (level, text)


def test_old_trouble_is_forgiven() -> None:
    troubled = counted(failed=3, refused=2, published=5)
    assert assess(replace(GOOD, counts=troubled), before=troubled)[0] == OK


def test_status_carries_names_counters_and_milliseconds() -> None:
    status = SimpleNamespace()
    report = replace(GOOD, counts=counted(refused=2, published=5), budget=BudgetReport(0.1, "it fits", 3))
    report = replace(report, resources=Resources(351.6, 40, 12, GpuMemory(None, 900.0, 8000.0)))
    fill_status(status, SimpleNamespace, report, (WARN, "text"))
    values = {entry.key: entry.value for entry in status.values}
    assert (status.level, status.message, status.hardware_id) == (b"\x01", "text", "tiny")
    assert status.name == "front/segment_node: /front/image"
    assert (values["published"], values["refused"], values["refused/cause"]) == ("5", "2", "2")
    assert (values["model"], values["model_id"], values["reloads"], values["reload_error"]) == (
        "tiny",
        "0123456789ab",
        "2",
        "",
    )
    assert (values["plan"], values["graph"], values["frame_error"]) == (
        "tiles",
        "480x640, fp16",
        "no graph is for this",
    )
    assert (values["plan_reason"], values["plan_switches"], values["latency_budget_ms"]) == ("it fits", "3", "100")
    assert (values["resident_mb"], values["descriptors"], values["threads"]) == ("352", "40", "12")
    assert [values[f"gpu_{name}_mb"] for name in ("process", "used", "total")] == ["n/a", "900", "8000"]
    assert values["refusal"] == "encoding 'x' is not known"
    assert (values["total_ms_p50"], values["total_ms_p95"], values["age_ms_p50"]) == ("100.0", "200.0", "n/a")


def test_throttle_lets_each_key_pass_once_a_period() -> None:
    now = [0.0]
    throttle = Throttle(5.0, lambda: now[0])
    assert [throttle.due("a"), throttle.due("a"), throttle.due("b")] == [True, False, True]
    now[0] = 5.0
    assert throttle.due("a")
