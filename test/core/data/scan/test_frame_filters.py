"""Which frames are dropped, and that a whole night is not."""

from __future__ import annotations

import pytest
from made_scan import camera, quality

from hrda_core.data.scan.frame_filters import FilterLimits, blurred, defects, repeats
from hrda_core.errors import RecipeError

LIMITS = FilterLimits()


def _defects(*odd, usual=None) -> list[str]:
    entries = [usual or quality(number) for number in range(9)]
    return defects(camera([*entries, *odd]).frames, LIMITS)[9:]


def test_each_defect_has_its_name() -> None:
    odd = (None, quality(dark=0.9), quality(blown=0.8), quality(structure=0.05), quality())

    assert _defects(*odd) == ["undecodable", "dark", "blown", "noise", ""]


def test_what_is_dark_follows_the_recording_up_to_nothing_to_see() -> None:
    night = quality(dark=0.75)

    assert _defects(night, usual=night) == [""]
    assert _defects(quality(dark=0.99), usual=night) == ["dark"]
    assert _defects(quality(dark=0.99), usual=quality(dark=0.99)) == ["dark"]


def test_a_covered_lens_in_a_drive_by_day_is_dark() -> None:
    assert _defects(quality(dark=0.65)) == ["dark"]


def test_all_noise_stays_noise_however_usual_it_is() -> None:
    assert set(_defects(quality(structure=0.01), usual=quality(structure=0.01))) == {"noise"}


def test_blur_is_judged_by_the_frames_around() -> None:
    sharpness = [0.2] * 30 + [0.07] + [0.2] * 5 + [1.0] * 30
    frames = camera([quality(sharpness=value) for value in sharpness]).frames

    found = blurred(frames, LIMITS)

    assert [place for place, is_blurred in enumerate(found) if is_blurred] == [30]


def test_a_camera_that_is_always_soft_is_not_blurred() -> None:
    assert not any(blurred(camera([quality(sharpness=0.01)] * 20).frames, LIMITS))


def test_a_frame_repeats_another_when_nothing_moved_and_nothing_crept() -> None:
    before, still, crept, moved = camera(
        [quality(0), quality(0, motion=0.01), quality(1, motion=0.01), quality(0, motion=0.2)]
    ).frames

    assert repeats(still, before, LIMITS)
    assert not repeats(crept, before, LIMITS)
    assert not repeats(moved, before, LIMITS)


def test_the_first_frame_repeats_nothing() -> None:
    first, second = camera([quality(0), quality(0, motion=float("nan"))]).frames

    assert not repeats(second, first, LIMITS)


@pytest.mark.parametrize("values", [{"still": -0.1}, {"structure": 1.5}, {"sharpness_around": 0}])
def test_limits_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=next(iter(values))):
        FilterLimits(**values)
