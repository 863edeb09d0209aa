"""Timing of several candidates in turn."""

from __future__ import annotations

import pytest

from hrda_core.bench import timing
from hrda_core.bench.timing import Candidate, Samples, interleave


class Clock:
    """A clock that candidates move."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return 2 * self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_candidates_run_in_turn_and_the_rarer_one_is_spread(clock: Clock) -> None:
    order: list[str] = []

    def frame(name: str, seconds: float) -> float | None:
        order.append(name)
        clock.now += seconds
        return seconds / 2 if name == "often" else None

    seen: list[tuple[int, int]] = []
    samples = interleave(
        {
            "often": Candidate(lambda: frame("often", 1.0), 6, warm_up=2),
            "rarely": Candidate(lambda: frame("rarely", 10.0), 2, warm_up=1),
        },
        lambda done, total: seen.append((done, total)),
    )
    assert order[:3] == ["often", "often", "rarely"]
    assert order[3:] == ["often", "often", "often", "rarely", "often", "often", "often", "rarely"]
    assert seen == [(done, 8) for done in range(1, 9)]
    assert samples["often"].wall == [1.0] * 6
    assert samples["often"].cpu == [2.0] * 6
    assert samples["often"].device == [0.5] * 6
    assert (samples["rarely"].p50, samples["rarely"].device) == (10.0, [])


def test_the_summary_has_percentiles_rate_and_processor_time() -> None:
    samples = Samples([i / 1000 for i in range(1, 102)], [0.003] * 101)
    summary = samples.to_dict()
    assert (summary["frames"], summary["min_ms"], summary["max_ms"]) == (101, 1, 101)
    assert [summary[name] for name in ("p10_ms", "p50_ms", "p95_ms", "p99_ms", "mean_ms")] == [11, 51, 96, 100, 51]
    assert summary["rate_hz"] == pytest.approx(1000 / 51, abs=1e-3)
    assert (summary["cpu_ms"], summary["device_p50_ms"]) == (3, None)
    assert Samples([1.0], [1.0], [0.25]).to_dict()["device_p50_ms"] == 250
