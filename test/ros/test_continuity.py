"""When a frame continues the video, without ROS."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hrda_ros.continuity import Continuity

SIZE = (480, 640)


def header(stamp_s: float, camera: str = "front") -> Any:
    nanoseconds = round(stamp_s * 1e9)
    stamp = SimpleNamespace(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
    return SimpleNamespace(stamp=stamp, frame_id=camera)


@pytest.fixture
def continuity() -> Continuity:
    """The last frame is of second 100."""
    made = Continuity()
    made.segmented(header(100.0), SIZE)
    return made


@pytest.mark.parametrize("stamp_s", [100.0, 100.033, 101.0])
def test_a_frame_within_a_second_goes_on(continuity: Continuity, stamp_s: float) -> None:
    assert continuity.follows(header(stamp_s), SIZE)


@pytest.mark.parametrize("stamp_s", [99.999, 0.0, 101.001, 1000.0])
def test_a_gap_and_a_step_back_do_not(continuity: Continuity, stamp_s: float) -> None:
    assert not continuity.follows(header(stamp_s), SIZE)


def test_neither_does_another_camera_or_another_size(continuity: Continuity) -> None:
    assert not continuity.follows(header(100.0, "rear"), SIZE)
    assert not continuity.follows(header(100.0), (480, 641))


def test_the_first_frame_follows_nothing(continuity: Continuity) -> None:
    assert not Continuity().follows(header(0.0), SIZE)
    continuity.start_over()
    assert not continuity.follows(header(100.0), SIZE)


def test_a_frame_that_was_not_segmented_does_not_count(continuity: Continuity) -> None:
    assert continuity.follows(header(100.9), SIZE)
    assert not continuity.follows(header(101.5), SIZE), "the model knows second 100 only"
