"""When the reports of the node account for what was played and received, and how long the session waits for that."""

from __future__ import annotations

from typing import Any, cast

import pytest
from street_demo import session
from street_demo.session import SessionRecord


def record(played: int, masks: int) -> SessionRecord:
    made = SessionRecord()
    for stamp in range(played):
        made.note({"event": "frame", "stamp": stamp, "time_ns": stamp})
    for stamp in range(masks):
        made.note({"event": "mask", "stamp": stamp, "time_ns": stamp + 1})
    return made


def report(**counts: int) -> dict[str, Any]:
    values = {"published": 0, "stale": 0, "superseded": 0, "refused": 0, "failed": 0, **counts}
    return {
        "event": "diagnostics", "level": 0, "message": "",
        "values": {name: str(count) for name, count in values.items()},
    }  # fmt: skip


def test_without_a_report_nothing_is_counted() -> None:
    assert not record(played=1, masks=0).counted()


@pytest.mark.parametrize(
    ("counts", "counted"),
    [
        ({"published": 5}, False),  # made before the last mask was counted
        ({"published": 6}, True),
        ({"published": 5, "superseded": 1}, False),  # a mask was received that it does not know yet
    ],
)
def test_a_report_that_was_made_before_the_last_mask_does_not_count(counts: dict[str, int], counted: bool) -> None:
    made = record(played=6, masks=6)
    made.note(report(**counts))
    assert made.counted() == counted


def test_frames_that_were_dropped_are_counted_and_lost_ones_are_not() -> None:
    made = record(played=6, masks=3)
    made.note(report(published=3, stale=1, refused=1))
    assert not made.counted()
    made.note(report(published=3, stale=1, refused=1, failed=1))
    assert made.counted()


class Scripted(session._Session):
    """A session without processes, whose events come from a list."""

    def __init__(self, made: SessionRecord, events: list[dict[str, Any]]) -> None:
        super().__init__(*(cast("Any", None) for _ in range(5)))
        self._record, self.events = made, events

    def _take_events(self) -> None:
        self._record.note(self.events.pop(0))


def test_the_session_ends_with_the_report_that_counts_everything_received() -> None:
    events = [report(published=5), report(published=6), report(published=6)]
    scripted = Scripted(record(played=6, masks=6), events)
    scripted._settle()
    assert scripted._record.diagnostics["published"] == "6"
    assert len(events) == 1


def test_for_frames_that_were_lost_the_session_waits_some_reports_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "SILENCE_S", 0.0)
    events = [report(published=5) for _ in range(10)]
    Scripted(record(played=6, masks=5), events)._settle()
    assert len(events) == 10 - session.LAST_REPORTS
