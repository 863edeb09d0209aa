"""The turns of several cameras, without threads and without ROS."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hrda_ros.frames.fair_slots import FairSlots

CAMERAS = ("front", "rear", "left", "right")


def test_the_newest_frame_of_each_camera_waits_and_the_one_that_it_replaces_comes_back() -> None:
    slots: FairSlots[str, int] = FairSlots(CAMERAS)
    assert slots.take() is None
    assert [slots.put("rear", frame) for frame in (1, 2, 3)] == [None, 1, 2]
    assert slots.put("front", 4) is None
    assert len(slots) == 2
    assert "left" not in slots
    assert [slots.take(), slots.take(), slots.take()] == [("front", 4), ("rear", 3), None]


def test_frames_that_are_wanted_together_are_taken_in_the_order_of_turns_and_the_others_wait() -> None:
    slots: FairSlots[str, int] = FairSlots(CAMERAS)
    for frame, camera in enumerate(CAMERAS):
        slots.put(camera, frame)
    assert slots.take() == ("front", 0)
    slots.put("front", 4)
    assert slots.take_all(lambda camera, frame: camera != "left", most=2) == [("rear", 1), ("right", 3)]
    assert slots.take_all(lambda camera, frame: True, most=9) == [("left", 2), ("front", 4)]


def test_a_camera_that_comes_later_has_its_first_turn_after_the_others() -> None:
    slots: FairSlots[str, int] = FairSlots(("front",))
    slots.add("rear")
    slots.put("rear", 1)
    slots.put("front", 2)
    assert slots.take() == ("front", 2)


@pytest.mark.parametrize("cameras", [1, 2, 4, 7])
def test_cameras_that_always_send_have_as_many_turns_each(cameras: int) -> None:
    slots: FairSlots[int, int] = FairSlots(range(cameras))
    turns = Counter(dict.fromkeys(range(cameras), 0))  # a camera without a turn counts too
    for frame in range(100):
        for camera in range(cameras):
            slots.put(camera, frame)
        taken = slots.take()
        assert taken is not None
        turns[taken[0]] += 1
    assert max(turns.values()) - min(turns.values()) <= 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(range(4)), max_size=12), min_size=20, max_size=60))
def test_a_camera_gets_its_fair_share_of_the_turns_however_often_the_others_send(rounds: list[list[int]]) -> None:
    """Camera 0 always has a frame; of the turns since the start it gets at least one in four, less one."""
    slots: FairSlots[int, int] = FairSlots(range(4))
    own = 0
    for turn, others in enumerate(rounds, 1):
        for camera in (0, *others):
            slots.put(camera, turn)
        taken = slots.take()
        assert taken is not None
        own += taken[0] == 0
        assert own >= turn // 4


class Turns(RuleBasedStateMachine):
    """Any order of frames, turns and stops, against a model of what waits."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: FairSlots[str, int] = FairSlots(CAMERAS)
        self.newest: dict[str, int] = {}
        self.passed_over: Counter[str] = Counter()
        self.offered = self.ended = 0

    @rule(camera=st.sampled_from(CAMERAS))
    def put(self, camera: str) -> None:
        """A frame comes."""
        self.offered += 1
        replaced = self.slots.put(camera, self.offered)
        assert replaced == self.newest.get(camera)
        self.ended += replaced is not None
        self.newest[camera] = self.offered

    @rule()
    def take(self) -> None:
        """The worker is free."""
        taken = self.slots.take()
        assert (taken is None) == (not self.newest)
        if taken is None:
            return
        camera, frame = taken
        assert frame == self.newest.pop(camera), "the newest frame, and no other"
        self.ended += 1
        del self.passed_over[camera]
        self.passed_over.update(list(self.newest))
        assert all(count < len(CAMERAS) for count in self.passed_over.values())

    @rule()
    def clear(self) -> None:
        """The worker is stopped."""
        assert dict(self.slots.clear()) == self.newest
        self.ended += len(self.newest)
        self.newest.clear()
        self.passed_over.clear()

    @invariant()
    def every_frame_is_accounted_for(self) -> None:
        """Each waits, or has ended once; at most one of a camera waits."""
        assert self.offered == self.ended + len(self.slots)
        assert len(self.slots) == len(self.newest)


TestTurns = Turns.TestCase
TestTurns.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
