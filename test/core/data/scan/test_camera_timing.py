"""Rates, gaps and clocks that jump."""

from __future__ import annotations

import numpy as np
import pytest

from hrda_core.data.scan.camera_timing import timing


def _timing(seconds: list[float], recordings: list[int] | None = None):
    return timing(
        np.round(1e9 * np.array(seconds)).astype(np.int64), np.array(recordings or [0] * len(seconds), np.int64)
    )


def test_the_rate_is_that_of_the_median_interval() -> None:
    assert _timing([0, 0.1, 0.2, 0.3, 2.0]).rate_hz == pytest.approx(10)


def test_gaps_are_above_three_intervals_and_the_longest_comes_first() -> None:
    gaps = _timing([0, 1, 2, 3, 7, 8, 9, 19, 22]).gaps

    assert [(gap.begin_ns, gap.length_s) for gap in gaps] == [(9 * 10**9, 10.0), (3 * 10**9, 4.0)]


def test_a_clock_that_is_set_back_is_no_gap() -> None:
    found = _timing([10, 11, 12, 5, 6, 7])

    assert found.gaps == ()
    assert [(jump.begin_ns, jump.length_s) for jump in found.jumps_back] == [(12 * 10**9, -7.0)]


def test_the_time_between_two_recordings_is_neither() -> None:
    found = _timing([0, 1, 2, 100, 101, 50, 51], [0, 0, 0, 1, 1, 2, 2])

    assert found.gaps == found.jumps_back == ()


@pytest.mark.parametrize("seconds", [[], [3.0], [3.0, 3.0]])
def test_there_is_no_rate_without_an_interval(seconds: list[float]) -> None:
    assert _timing(seconds).rate_hz is None
