"""Levels and values of the diagnostics, without ROS."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hrda_ros.diagnostics import ERROR, OK, STALE, WARN, NodeReport, Throttle, assess, fill_status
from hrda_ros.pipeline import Counts, Performance

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
)


def counted(**changes: Any) -> Counts:
    causes = {(name, "cause"): count for name, count in changes.items() if name in ("stale", "refused", "failed")}
    return replace(NOTHING, **changes, causes=causes)


@pytest.mark.parametrize(
    ("changes", "level", "text"),
    [
        ({}, OK, "9.5 masks a second"),
        ({"last_error": "cannot configure: no model"}, ERROR, "cannot configure: no model"),
        ({"state": "inactive"}, WARN, "not active (inactive)"),
        ({"counts": counted(failed=3)}, ERROR, "3 frame(s) failed (cause): no graph is for this"),
        ({"counts": counted(failed=3, published=1)}, WARN, "3 frame(s) failed (cause): no graph is for this"),
        ({"silent_s": 7.0}, STALE, "no image on /front/image for 7 s"),
        ({"counts": counted(refused=2, published=5)}, WARN, "2 message(s) refused: cause"),
        ({"reload_error": "no folder"}, WARN, "the last reload failed, 'tiny' goes on serving: no folder"),
        ({"counts": counted(stale=4)}, OK, "idle: cause"),
        ({"expected_hz": 12.0}, WARN, "9.5 masks a second, expected 12"),
        ({"expected_hz": 12.0, "active_s": 1.0}, OK, "9.5 masks a second"),
        ({"expected_hz": 0.0}, OK, "9.5 masks a second"),
    ],
)
def test_the_level_says_what_is_wrong_first(changes: dict[str, Any], level: int, text: str) -> None:
    assert assess(replace(GOOD, **changes), NOTHING) == (level, text)


def test_old_trouble_is_forgiven() -> None:
    troubled = counted(failed=3, refused=2, published=5)
    assert assess(replace(GOOD, counts=troubled), before=troubled)[0] == OK


def test_status_carries_names_counters_and_milliseconds() -> None:
    status = SimpleNamespace()
    report = replace(GOOD, counts=counted(refused=2, published=5))
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
    assert (values["total_ms_p50"], values["total_ms_p95"], values["age_ms_p50"]) == ("100.0", "200.0", "n/a")


def test_throttle_lets_each_key_pass_once_a_period() -> None:
    now = [0.0]
    throttle = Throttle(5.0, lambda: now[0])
    assert [throttle.due("a"), throttle.due("a"), throttle.due("b")] == [True, False, True]
    now[0] = 5.0
    assert throttle.due("a")
