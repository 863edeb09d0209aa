"""Selected frames as files: exactly those, whole, resumable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_bag import write_made_bag
from made_scan import street

from hrda_core.data.frame_selection.frame_extraction import Extraction, extract_frames
from hrda_core.data.frame_selection.frame_selection import SelectionConfig, select_frames
from hrda_core.data.frame_selection.selected_frames import Selection
from hrda_core.data.image_files import read_image
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.data.scan.scan import scan
from hrda_core.errors import DataError

CONFIG = SelectionConfig(budget=6, held_out_budget=3)


def _frames():
    for number in range(80):
        yield np.zeros((120, 160, 3), np.uint8) if number == 10 else street(8 * number)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recordings, Selection]:
    """80 frames at 4 Hz, one of them black, and what is selected of them."""
    path = write_made_bag(tmp_path_factory.mktemp("bag") / "drive", _frames(), hz=4)
    recordings = Recordings.open([path])
    return recordings, select_frames(scan(recordings), CONFIG)


def _extract(made: tuple[Recordings, Selection], folder: Path) -> Extraction:
    return extract_frames(*made, folder)


def test_files_are_the_chosen_frames_bit_by_bit(made: tuple[Recordings, Selection], tmp_path: Path) -> None:
    result = _extract(made, tmp_path)

    assert len(result.adapt) == 6
    assert len(result.held_out) == 3
    assert sorted(tmp_path.glob("adapt/*")) == sorted(result.adapt)
    assert sorted(tmp_path.glob("held_out/*")) == sorted(result.held_out)
    for row in made[1].of("kept"):
        np.testing.assert_array_equal(read_image(tmp_path / row.file), street(8 * row.frame.number))


def test_pairs_are_a_held_out_frame_and_the_next_image(made: tuple[Recordings, Selection], tmp_path: Path) -> None:
    pairs = _extract(made, tmp_path).pairs

    assert len(pairs) >= 2
    for first, second in pairs:
        stamps = [int(path.stem.rsplit("_", 1)[1]) for path in (first, second)]
        assert stamps[1] - stamps[0] == 25 * 10**7
        assert read_image(second).shape == (120, 160, 3)


def test_a_rejected_frame_is_shown_with_its_reason(made: tuple[Recordings, Selection], tmp_path: Path) -> None:
    ((path, reason),) = _extract(made, tmp_path).rejected

    assert reason == "dark"
    assert read_image(path).shape == (240, 320, 3)


def test_what_is_there_is_left_alone_and_what_is_missing_made(
    made: tuple[Recordings, Selection], tmp_path: Path
) -> None:
    first = _extract(made, tmp_path)
    first.adapt[0].write_bytes(b"mine")
    first.adapt[1].unlink()

    second = _extract(made, tmp_path)

    assert second == first
    assert first.adapt[0].read_bytes() == b"mine"
    assert read_image(first.adapt[1]).shape == (120, 160, 3)
    assert not list(tmp_path.rglob("*.part"))


def test_the_whole_story_is_in_json_and_csv(made: tuple[Recordings, Selection], tmp_path: Path) -> None:
    _extract(made, tmp_path)

    values = json.loads((tmp_path / "selection.json").read_text())
    assert values["counts"] == made[1].counts
    assert values["frames"] == len(values["rows"]) == len(made[1].rows)
    assert {(tmp_path / row["file"]).is_file() for row in values["rows"] if row["file"]} == {True}
    assert len((tmp_path / "selection.csv").read_text().splitlines()) == len(made[1].rows) + 1


def test_an_undecodable_neighbour_takes_its_pair_along(
    made: tuple[Recordings, Selection], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hrda_core.data.recordings.recorded_image import RecordedImage
    from hrda_core.errors import ImageError

    pair = next(pair for pair in made[1].neighbours if pair.file.startswith("neighbours/"))
    whole = RecordedImage.decode

    def decode(image: RecordedImage) -> np.ndarray:
        if image.number == pair.number:
            raise ImageError("too few bytes", "short")
        return whole(image)

    monkeypatch.setattr(RecordedImage, "decode", decode)
    result = _extract(made, tmp_path)

    assert len(result.pairs) == len(made[1].neighbours) - 1
    assert not (tmp_path / pair.file).exists()


def test_other_recordings_than_those_scanned_are_refused(made: tuple[Recordings, Selection], tmp_path: Path) -> None:
    other = Recordings.open([write_made_bag(tmp_path / "other", (street(n) for n in range(80)), hz=3)])

    with pytest.raises(DataError, match="other images"):
        extract_frames(other, made[1], tmp_path / "frames")


def test_a_folder_that_cannot_be_written_is_one_sentence(made: tuple[Recordings, Selection], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match="cannot be written"):
        extract_frames(*made, tmp_path / "file")
