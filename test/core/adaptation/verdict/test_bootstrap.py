"""Bounds of a difference: they hold what they promise, repeat, count neighbours once, and say when nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hrda_core.adaptation.verdict.bootstrap import Difference, block_length, paired_difference


def mean_difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Of a measure that is a mean over frames."""
    return paired_difference(len(first), lambda chosen: float((second - first)[chosen].mean()))


SHARES = arrays.arrays(np.float64, st.integers(5, 30), elements=st.floats(0, 1))


@settings(max_examples=10)
@given(SHARES)
def test_a_model_does_not_differ_from_itself(shares: np.ndarray) -> None:
    assert mean_difference(shares, shares) == Difference(0.0, 0.0, 0.0)
    assert mean_difference(shares, shares).verdict == "undecided"


@settings(max_examples=10)
@given(SHARES, st.integers(0, 99))
def test_bounds_lie_around_the_difference_and_turn_round_with_it(shares: np.ndarray, seed: int) -> None:
    other = np.random.default_rng(seed).random(len(shares))
    there, back = mean_difference(shares, other), mean_difference(other, shares)
    assert there.low <= there.value + 1e-12
    assert there.value <= there.high + 1e-12
    assert [back.low, back.value, back.high] == pytest.approx([-there.high, -there.value, -there.low], abs=1e-9)


def test_pairing_finds_a_gain_that_is_small_beside_the_spread_of_frames() -> None:
    frames = np.random.default_rng(0).random(40)
    gain = mean_difference(frames, frames + np.random.default_rng(1).normal(0.02, 0.01, 40))
    assert gain.verdict == "better"
    assert gain.high - gain.low < 0.01


def test_bounds_of_ninety_per_cent_miss_the_truth_in_about_ten_per_cent_of_drives() -> None:
    rng = np.random.default_rng(2)
    found = [mean_difference(np.zeros(40), rng.normal(0.0, 1.0, 40)) for _ in range(60)]
    missed = np.mean([not difference.low <= 0 <= difference.high for difference in found])
    assert 0.03 < missed < 0.3


def test_the_same_frames_give_the_same_bounds_again() -> None:
    frames = np.random.default_rng(3).random((2, 20))
    assert mean_difference(*frames) == mean_difference(*frames)


def test_draws_without_a_value_are_left_out() -> None:
    values = np.array([np.nan, 1.0, 1.0, 1.0])
    found = paired_difference(
        4, lambda chosen: float("nan") if (chosen == 0).any() else float(values[chosen].mean()), in_time=False
    )
    assert (found.low, found.high) == (1.0, 1.0)


def test_neighbours_that_show_the_same_street_count_once() -> None:
    streets = np.random.default_rng(4).normal(0.0, 1.0, 7)
    frames = np.repeat(streets, 7)  # seven frames of each street

    def width(in_time: bool) -> float:
        found = paired_difference(len(frames), lambda chosen: float(frames[chosen].mean()), in_time=in_time)
        return found.high - found.low

    assert width(in_time=True) > 1.7 * width(in_time=False)


@pytest.mark.parametrize(("frames", "length"), [(0, 1), (1, 1), (2, 2), (9, 3), (10, 4), (100, 10)])
def test_blocks_are_as_long_as_there_are_of_them(frames: int, length: int) -> None:
    assert block_length(frames) == length


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.2, "better"), (-0.2, -0.01, "worse"), (-0.1, 0.3, "undecided"), (0.0, 0.3, "undecided")],
)
def test_a_difference_is_one_only_where_its_bounds_exclude_zero(low: float, high: float, verdict: str) -> None:
    assert Difference((low + high) / 2, low, high).verdict == verdict
