"""Every analysed frame gets one reason; what is judged on is never adapted on; a budget covers what there is."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_scan import camera, quality, scan_of

from hrda_core.data.frame_selection.frame_selection import SelectionConfig, select_frames
from hrda_core.data.frame_selection.selected_frames import REASONS
from hrda_core.errors import DataError, RecipeError

QUALITIES = st.one_of(
    st.none(),
    st.builds(
        quality,
        st.integers(0, 5),
        dark=st.sampled_from([0.0, 0.99]),
        sharpness=st.sampled_from([0.02, 0.5]),
        structure=st.sampled_from([0.05, 0.8]),
        motion=st.sampled_from([0.0, 0.3]),
    ),
)
FRAMES = st.lists(st.tuples(QUALITIES, st.floats(0, 60)), min_size=1, max_size=40)


def _good(count: int) -> list:
    return [quality(number) for number in range(count)]


@settings(max_examples=80, deadline=None)
@given(FRAMES, FRAMES, st.integers(1, 30), st.floats(0.1, 0.6))
def test_each_frame_has_one_reason_and_the_parts_never_overlap(
    front: list, rear: list, budget: int, held_out: float
) -> None:
    made = scan_of(
        *(
            camera([entry for entry, _ in frames], topic=topic, times=sorted(time for _, time in frames))
            for topic, frames in (("/front", front), ("/rear", rear))
        )
    )
    config = SelectionConfig(budget=budget, held_out=held_out, held_out_budget=5, minimum=1, gap_s=1.0)
    try:
        selection = select_frames(made, config)
    except DataError:
        return

    assert [row.frame for row in selection.rows] == list(made.frames)
    assert sum(selection.counts.values()) == len(made.frames)
    assert set(selection.counts) == set(REASONS)
    kept = [row.frame.stamp_ns for row in selection.of("kept")]
    held = [row.frame.stamp_ns for row in selection.of("held_out")]
    assert 1 <= len(kept) <= budget
    assert 1 <= len(held) <= 5
    assert all(abs(a - b) >= 10**9 - 1 for a in kept for b in held)
    assert all(row.frame.quality is not None for row in selection.of("kept") + selection.of("held_out"))
    files = [row.file for row in selection.rows if row.file]
    files += [pair.file for pair in selection.neighbours if pair.file.startswith("neighbours/")]
    assert len(files) == len(set(files))


def test_every_filter_gives_its_own_reason() -> None:
    frames = _good(60)
    frames[3] = None
    frames[5] = quality(5, dark=0.99)
    frames[7] = quality(7, blown=0.99)
    frames[9] = quality(9, structure=0.01)
    frames[11] = quality(11, sharpness=0.05)
    frames[13] = quality(12, motion=0.001)

    selection = select_frames(scan_of(camera(frames)), SelectionConfig(budget=20))

    reasons = [row.reason for row in selection.rows]
    assert [reasons[place] for place in (3, 5, 7, 9, 11, 13)] == [
        "undecodable",
        "dark",
        "blown",
        "noise",
        "blurred",
        "duplicate",
    ]
    counts = Counter(reasons)
    assert (counts["kept"], counts["gap"], counts["held_out"]) == (20, 4, 15)
    assert counts["budget"] == 60 - 6 - 20 - 4 - 15


def test_standing_still_leaves_one_frame_of_the_stop() -> None:
    stop = [quality(99)] + [quality(99, motion=0.002) for _ in range(20)]
    frames = [*_good(20), *stop, *(quality(100 + number) for number in range(20))]

    selection = select_frames(scan_of(camera(frames)), SelectionConfig(held_out=0))

    assert selection.counts["duplicate"] == 20
    assert selection.counts["kept"] == 41


def test_a_stride_is_kept_between_two_frames() -> None:
    selection = select_frames(scan_of(camera(_good(40))), SelectionConfig(held_out=0, stride_s=2.0))

    assert selection.counts["kept"] == 10
    assert selection.counts["stride"] == 30


def test_blurred_frames_are_judged_on_but_not_learnt_from() -> None:
    frames = _good(80)
    frames[10], frames[75] = quality(10, sharpness=0.03), quality(75, sharpness=0.03)

    selection = select_frames(scan_of(camera(frames)))

    assert (selection.rows[10].reason, selection.rows[75].reason) == ("blurred", "held_out")


def test_a_whole_drive_at_night_is_not_called_dark() -> None:
    frames = [quality(number, dark=0.8, luminance=12) for number in range(40)]

    assert select_frames(scan_of(camera(frames))).counts["dark"] == 0


@pytest.mark.parametrize(
    ("frames", "word"),
    [
        ([quality(number, structure=0.003) for number in range(50)], "noise 4[0-9]"),
        ([quality(0, motion=0.0)] * 50, "duplicate 44"),
        ([None] * 50, "undecodable 50"),
        (_good(3), "to judge on|to adapt on"),
    ],
    ids=["noise", "standing", "undecodable", "short"],
)
def test_a_recording_without_use_is_refused_with_the_counts(frames: list, word: str) -> None:
    with pytest.raises(DataError, match=word) as error:
        select_frames(scan_of(camera(frames)))

    assert "at least 4 are needed" in str(error.value)
    assert str(error.value).count(".") == 0  # one sentence


def test_a_scan_without_images_is_refused() -> None:
    from hrda_core.data.scan.scan import Scan

    with pytest.raises(DataError, match="there is no image"):
        select_frames(Scan((), (), (), ()))


def test_the_budget_covers_scenes_instead_of_repeating_the_commonest() -> None:
    rare = {10: quality(1001), 20: quality(1002), 30: quality(1003)}
    frames = [rare.get(number, quality(5)) for number in range(60)]

    selection = select_frames(scan_of(camera(frames)), SelectionConfig(budget=4, held_out=0))

    assert set(rare) <= {row.frame.number for row in selection.of("kept")}


def test_held_out_frames_come_with_the_image_right_after_them() -> None:
    selection = select_frames(scan_of(camera(_good(60))), SelectionConfig(held_out_budget=5))

    assert len(selection.neighbours) >= 4  # the last image has none after it
    for pair in selection.neighbours:
        assert pair.number == pair.after[1] + 1
        assert pair.file.startswith(("neighbours/", "held_out/"))
        assert pair.after_file.startswith("held_out/")


def test_images_too_far_apart_in_time_are_no_neighbours() -> None:
    slow = scan_of(camera(_good(60), hz=0.2))

    assert select_frames(slow).neighbours == ()


def test_a_stamp_that_comes_twice_gives_two_files() -> None:
    times = [number / 2 for number in range(30)] * 2
    selection = select_frames(scan_of(camera(_good(60), times=times)), SelectionConfig(stride_s=0))

    files = [row.file for row in selection.rows if row.file]
    assert len(files) == len(set(files))


@pytest.mark.parametrize("back_at", [5, 23, 35])
@pytest.mark.parametrize("step_s", [2.0, 13.0, 1e9])
def test_where_the_clock_steps_back_the_end_of_the_recording_is_held_out_after_a_gap(
    back_at: int, step_s: float
) -> None:
    times = [number / 2 - (step_s if number >= back_at else 0) for number in range(40)]
    config = SelectionConfig(stride_s=0, minimum=1, gap_s=2.0)

    selection = select_frames(scan_of(camera(_good(40), times=times)), config)

    held = [row.frame.number for row in selection.of("held_out")]
    kept = [row.frame.number for row in selection.of("kept")]
    assert max(held) == 39
    assert max(kept) + 4 < min(held)
    assert len(held) >= 8
    assert len(kept) >= 20


def test_topics_whose_names_are_alike_do_not_share_files() -> None:
    made = scan_of(camera(_good(30), topic="/a/b"), camera(_good(30), topic="/a_b"))

    files = [row.file for row in select_frames(made).rows if row.file]

    assert len(files) == len(set(files))


HOSTILE_TOPICS = (
    "/../../etc/x",
    "/nul\0/x",
    "/" + "x" * 300,
    "/" + "界" * 300,
    "/<script>",
    "/a b;rm -rf ~/x",
    "..",
    "/é",
)


def test_f11_any_topic_becomes_a_file_name_of_its_own_inside_the_folder_that_any_disk_takes() -> None:
    made = scan_of(*(camera(_good(8), topic=topic) for topic in HOSTILE_TOPICS))
    files = [row.file for row in select_frames(made, SelectionConfig(minimum=1, held_out=0.2)).rows if row.file]
    assert len(files) >= 3 * len(HOSTILE_TOPICS)
    for file in files:
        folder, name = file.split("/")
        assert re.fullmatch(r"[a-z_]+", folder)
        assert re.fullmatch(r"[\w.-]+", name, re.ASCII)
        assert len(name) < 200
    assert len(set(files)) == len(files)


def test_f11_cameras_whose_names_become_one_do_not_share_files() -> None:
    made = scan_of(*(camera(_good(8), topic=f"/{letter}") for letter in "界面前后"))
    files = [row.file for row in select_frames(made, SelectionConfig(minimum=1, held_out=0.2)).rows if row.file]
    assert len(set(files)) == len(files) > 8


def test_the_table_counts_by_reason_and_the_csv_has_a_line_a_frame() -> None:
    selection = select_frames(scan_of(camera([*_good(59), None])))

    assert "60 analysed frames" in selection.table()
    assert "undecodable" in selection.table()
    assert "noise" not in selection.table()
    assert len(selection.to_csv().splitlines()) == 61
    assert selection.to_dict()["counts"]["undecodable"] == 1


@pytest.mark.parametrize("values", [{"held_out": 1.0}, {"budget": 0}, {"gap_s": -1.0}, {"minimum": 0}])
def test_options_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(RecipeError):
        SelectionConfig(**values)
