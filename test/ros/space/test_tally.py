"""The verdict about the last second."""

from __future__ import annotations

from hrda_ros.space.tally import ERROR, OK, WARN, Tally


def test_the_worst_of_the_last_second_is_told_and_the_second_after_starts_over() -> None:
    tally = Tally()
    assert tally.verdict(wanted=False) == (OK, "nobody subscribes")
    assert tally.verdict(wanted=True) == (OK, "waiting for masks")
    tally.leave_out("no depth")
    assert tally.verdict(wanted=True) == (ERROR, "1 mask(s) left out: no depth")
    tally.place()
    tally.leave_out("no size")
    assert tally.verdict(wanted=True) == (WARN, "1 mask(s) left out: no size")
    tally.place()
    tally.place()
    assert tally.verdict(wanted=True) == (OK, "2 mask(s) placed")
    tally.silence = "nothing came on depth"
    assert tally.verdict(wanted=True) == (WARN, "nothing to publish: nothing came on depth")
    assert tally.verdict(wanted=False) == (OK, "nobody subscribes")
    tally.place()
    tally.verdict(wanted=True)
    assert tally.verdict(wanted=True) == (OK, "waiting for masks"), "one that was placed ends the silence"
    assert (tally.placed, tally.left_out) == (4, 2)


def test_masks_that_are_all_left_out_are_an_error_also_in_the_seconds_between_them() -> None:
    tally = Tally()
    tally.place()
    tally.leave_out("no size")
    tally.verdict(wanted=True)
    tally.leave_out("no depth")
    tally.verdict(wanted=True)
    assert tally.verdict(wanted=True) == (ERROR, "the last 2 mask(s) were left out: no depth")
    assert tally.verdict(wanted=False) == (OK, "nobody subscribes")
    assert tally.verdict(wanted=True) == (OK, "waiting for masks"), "who subscribes anew begins anew"


def test_what_is_placed_in_doubt_is_a_warning() -> None:
    tally = Tally()
    tally.doubt = "without a point"
    tally.place()
    assert tally.verdict(wanted=True) == (WARN, "1 mask(s) placed, but without a point")
