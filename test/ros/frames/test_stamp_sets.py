"""Sets of messages with the same stamp."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrda_ros.frames.stamp_sets import StampSets


@pytest.mark.parametrize("order", [("mask", "depth"), ("depth", "mask")])
def test_the_last_missing_message_completes_the_set_in_either_order(order: tuple[str, str]) -> None:
    sets = StampSets(("mask", "depth"), keep=3)
    assert sets.offer(order[0], (1, 5), f"{order[0]} of 1.5") is None
    assert sets.offer(order[1], (1, 6), "of another time") is None
    complete = sets.offer(order[1], (1, 5), f"{order[1]} of 1.5")
    assert complete == {"mask": "mask of 1.5", "depth": "depth of 1.5"}


def test_what_came_before_a_complete_set_is_forgotten() -> None:
    sets = StampSets(("mask", "depth"), keep=9)
    for second in range(5):
        sets.offer("depth", (second, 0), second)
    assert sets.offer("mask", (3, 0), "mask") == {"mask": "mask", "depth": 3}
    assert sets.waiting() == {"mask": 0, "depth": 1}
    assert sets.offer("mask", (2, 0), "late") is None


def test_a_clock_that_steps_back_keeps_no_messages_of_the_future() -> None:
    sets = StampSets(("mask", "depth"), keep=9)
    for second in (100, 101, 1):
        sets.offer("depth", (second, 0), second)
    assert sets.offer("mask", (1, 0), "mask") == {"mask": "mask", "depth": 1}
    assert sets.waiting() == {"mask": 0, "depth": 0}


@given(st.lists(st.tuples(st.sampled_from(("a", "b", "c")), st.integers(0, 20))))
def test_memory_is_bounded_and_sets_are_whole_and_of_one_stamp(messages: list[tuple[str, int]]) -> None:
    sets: StampSets = StampSets(("a", "b", "c"), keep=4)
    for name, second in messages:
        complete: dict[str, Any] | None = sets.offer(name, (second, 0), second)
        assert complete is None or complete == {"a": second, "b": second, "c": second}
        assert max(sets.waiting().values()) <= 4


def test_a_look_back_names_the_silent_topic_or_the_stamps_that_differ() -> None:
    sets = StampSets(("mask", "depth"), keep=3)
    assert sets.look_back() == "nothing came on mask and depth"
    sets.offer("mask", (7, 0), None)
    assert sets.look_back() == "nothing came on depth (mask 1)"
    sets.offer("mask", (8, 0), None)
    sets.offer("depth", (8, 1_000_000), None)
    assert sets.look_back() == (
        "messages came (mask 1, depth 1), but no stamp was the same on all topics; "
        "the newest: mask 8.000000000, depth 8.001000000"
    )
    sets.offer("depth", (8, 0), None)
    assert sets.look_back() == ""
