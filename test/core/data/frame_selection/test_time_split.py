"""What is judged on is later than what is adapted on, of all cameras."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hrda_core.data.frame_selection.time_split import in_recorded_order, split_by_time

SECOND = 10**9
STAMPS = st.lists(st.integers(0, 200), min_size=1, max_size=30)


def _stamps(seconds: list[int]) -> np.ndarray:
    return np.array(seconds, np.int64) * SECOND


def test_the_last_quarter_is_held_out_after_a_gap() -> None:
    (parts,) = split_by_time({"a": _stamps(list(range(41)))}, 0.25, 2.0).values()

    assert parts == ["adapt"] * 28 + ["gap"] * 2 + ["held_out"] * 11


@given(STAMPS)
def test_order_of_recording_has_no_steps_back_and_leaves_a_good_clock_alone(seconds: list[int]) -> None:
    stamps = _stamps(seconds)
    assert (np.diff(in_recorded_order(stamps)) >= -SECOND).all()
    np.testing.assert_array_equal(in_recorded_order(np.sort(stamps)), np.sort(stamps))


def test_nothing_is_held_out_where_none_is_asked_for() -> None:
    assert split_by_time({"a": _stamps([0, 1, 2])}, 0.0, 2.0) == {"a": ["adapt"] * 3}


def test_a_pause_between_two_drives_is_no_driving_time() -> None:
    drives = list(range(30)) + list(range(100_000, 100_010))

    (parts,) = split_by_time({"a": _stamps(drives)}, 0.25, 0.5).values()

    assert parts == ["adapt"] * 30 + ["held_out"] * 10


def test_a_camera_does_not_see_what_another_is_judged_on() -> None:
    parts = split_by_time({"front": _stamps(list(range(40))), "rear": _stamps(list(range(80)))}, 0.25, 1.0)

    assert parts["front"].count("held_out") == 10
    assert set(parts["rear"][29:41]) == {"gap"}


@settings(max_examples=80, deadline=None)
@given(STAMPS, STAMPS, st.floats(0.05, 0.9), st.floats(0, 10))
def test_the_two_parts_never_come_nearer_than_the_gap(
    front: list[int], rear: list[int], held_out: float, gap_s: float
) -> None:
    stamps = {"front": _stamps(front), "rear": _stamps(rear)}

    parts = split_by_time(stamps, held_out, gap_s)

    frames = [frame for camera in stamps for frame in zip(stamps[camera], parts[camera], strict=True)]
    adapt, judged = ([stamp for stamp, part in frames if part == name] for name in ("adapt", "held_out"))
    assert judged
    assert all(abs(a - b) > 1e9 * gap_s - 1 for a in adapt for b in judged)
