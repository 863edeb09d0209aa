"""Rates, gaps and clocks that jump."""

from __future__ import annotations

import numpy as np
import pytest

from hrda_core.data.scan.camera_timing import elapsed_s, timing


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


def test_a_clock_that_is_set_forward_is_no_gap_and_no_time_that_passed() -> None:
    found = _timing([0, 1, 2, 1.7e9, 1.7e9 + 1, 1.7e9 + 8])

    assert [gap.length_s for gap in found.gaps] == [7.0]
    assert [(jump.number, jump.length_s) for jump in found.jumps_forward] == [(2, 1.7e9 - 2)]
    assert found.rate_hz == pytest.approx(1)


@pytest.mark.parametrize(
    ("seconds", "recordings", "elapsed"),
    [
        ([], [], []),
        ([5.0], [0], [0]),
        ([10, 11, 14, 15], [0, 0, 0, 0], [0, 1, 4, 5]),  # a gap is time
        ([10, 11, 10.5, 12], [0, 0, 0, 0], [0, 1, 0.5, 2]),  # images overtake each other
        ([10, 11, 12, 5, 6, 7], [0] * 6, [0, 1, 2, 3, 4, 5]),
        ([0, 1, 1.7e9, 1.7e9 + 1], [0] * 4, [0, 1, 2, 3]),
        ([0, 1, 9000, 9001, 100, 101], [0, 0, 1, 1, 2, 2], [0, 1, 9000, 9001, 9002, 9003]),
    ],
)
def test_time_passes_in_the_order_of_recording(
    seconds: list[float], recordings: list[int], elapsed: list[float]
) -> None:
    stamps = np.round(1e9 * np.array(seconds)).astype(np.int64)

    np.testing.assert_allclose(elapsed_s(stamps, np.array(recordings, np.int64)), elapsed)


def test_the_time_between_two_recordings_is_neither() -> None:
    found = _timing([0, 1, 2, 100, 101, 50, 51], [0, 0, 0, 1, 1, 2, 2])

    assert found.gaps == found.jumps_back == ()


@pytest.mark.parametrize("seconds", [[], [3.0], [3.0, 3.0]])
def test_there_is_no_rate_without_an_interval(seconds: list[float]) -> None:
    assert _timing(seconds).rate_hz is None


def test_a_gap_in_a_later_recording_is_at_its_own_image() -> None:
    (gap,) = _timing([0, 1, 2, 100, 101, 110], [0, 0, 0, 1, 1, 1]).gaps

    assert (gap.number, gap.begin_ns, gap.length_s) == (4, 101 * 10**9, 9.0)
