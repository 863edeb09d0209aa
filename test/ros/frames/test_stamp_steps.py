"""Bags that loop, and two clocks on one topic."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from hrda_ros.frames.stamp_steps import StampSteps


def steps(stamps: Iterable[float]) -> list[float]:
    """The steps back that are found."""
    watch = StampSteps()
    return [back for back in map(watch.back_s, stamps) if back]


@pytest.mark.parametrize("offsets", [(1.7e9, 12.0), (12.0, 1.7e9), (1.7e9, 1.7e9 - 7), (5.0, 1e6, 1.7e9)])
def test_m8_two_or_more_clocks_on_one_topic_are_found_once(offsets: tuple[float, ...]) -> None:
    found = steps(offset + number / 10 for number in range(100) for offset in offsets)

    assert len(found) <= 1


def test_a_bag_that_loops_is_found_each_time() -> None:
    assert steps(100 + number / 10 for _ in range(4) for number in range(200)) == pytest.approx([19.9] * 3)


@pytest.mark.parametrize("stamps", [[], [5.0], [1, 2, 3], [1, 1.4, 1.0, 1.5], [1, 2, 5000, 5001]])
def test_a_clock_that_goes_on_or_is_late_by_little_steps_not_back(stamps: list[float]) -> None:
    assert steps(stamps) == []


def test_a_clock_that_was_set_back_goes_on_from_there() -> None:
    assert steps([100, 101, 40, 41, 42, 43]) == [61]
