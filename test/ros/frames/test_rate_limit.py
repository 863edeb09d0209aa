"""The limit on the rate: never too many frames, never fewer than it allows, whatever the camera does."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrda_ros.frames.rate_limit import RateLimit

gaps = st.lists(st.floats(0.0, 2.0), min_size=1, max_size=40)
rates = st.floats(0.5, 60.0)


def passed(times: list[float], rate_hz: float) -> list[float]:
    limit = RateLimit()
    return [time for time in times if limit.passes(time, rate_hz)]


@given(gaps, rates)
def test_in_any_time_no_more_frames_pass_than_the_limit_allows(gaps: list[float], rate_hz: float) -> None:
    times = passed(list(accumulate(gaps)), rate_hz)
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= (times[last] - times[first]) * rate_hz + 2 + 1e-6


@given(st.floats(1.0, 60.0), st.floats(1.0, 60.0), st.integers(0, 999))
def test_a_camera_that_jitters_gets_the_rate_that_it_and_the_limit_have(
    camera_hz: float, rate_hz: float, seed: int
) -> None:
    frames = 200
    jitter = [((seed * 31 + 7919 * number) % 1000 - 500) / 5000 for number in range(frames)]  # a tenth of a period
    times = [(number + shift) / camera_hz for number, shift in enumerate(jitter)]
    wanted = frames * min(1.0, rate_hz / camera_hz)
    assert len(passed(times, rate_hz)) >= wanted - 2


def test_without_a_limit_all_pass() -> None:
    assert passed([0.0, 0.0, 0.001], 0.0) == [0.0, 0.0, 0.001]


def test_the_first_frame_passes_and_a_pause_saves_nothing_up() -> None:
    limit = RateLimit()
    assert [limit.passes(time, 10.0) for time in (0.0, 9.0, 9.01, 9.02, 9.03)] == [True, True, True, False, False]


@pytest.mark.parametrize(("before_hz", "after_hz", "wait_s"), [(0.01, 10.0, 0.11), (10.0, 0.01, 1.0)])
def test_another_limit_counts_from_the_next_frame_on(before_hz: float, after_hz: float, wait_s: float) -> None:
    limit = RateLimit()
    assert limit.passes(0.0, before_hz)
    assert [limit.passes(wait_s + number / 1000, after_hz) for number in range(4)] == [True, True, False, False]


def test_the_smallest_limit_that_there_is_lets_the_first_frames_pass_alone() -> None:
    limit = RateLimit()
    assert sum(limit.passes(float(now_s), 1e-320) for now_s in range(20)) <= 2
