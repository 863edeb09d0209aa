"""Bounds of a difference: they hold what they promise, repeat, and say when nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hrda_core.adaptation.verdict.bootstrap import Difference, paired_difference


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
    assert 0.03 < missed < 0.25


def test_the_same_frames_give_the_same_bounds_again() -> None:
    frames = np.random.default_rng(3).random((2, 20))
    assert mean_difference(*frames) == mean_difference(*frames)


def test_draws_without_a_value_are_left_out() -> None:
    values = np.array([np.nan, 1.0, 1.0, 1.0])
    found = paired_difference(4, lambda chosen: float("nan") if (chosen == 0).any() else float(values[chosen].mean()))
    assert (found.low, found.high) == (1.0, 1.0)
