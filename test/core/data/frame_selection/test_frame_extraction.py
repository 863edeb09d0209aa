"""Selected frames as files: exactly those, whole, resumable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_bag import write_made_bag
from made_scan import street

from hrda_core.data.frame_selection.frame_extraction import extract_frames
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


def _extract(made: tuple[Recordings, Selection], folder: Path) -> dict[str, Any]:
    """Write the frames; returns what selection.json then says."""
    extract_frames(*made, folder)
    values: dict[str, Any] = json.loads((folder / "selection.json").read_text())
    return values


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


def test_files_are_the_chosen_frames_bit_by_bit(made: tuple[Recordings, Selection], tmp_path: Path) -> None:
    _extract(made, tmp_path)

    assert len(list(tmp_path.glob("adapt/*"))) == 6
    assert len(list(tmp_path.glob("held_out/*"))) == 3
    assert {row.file for row in made[1].of("kept") + made[1].of("held_out")} <= set(_files(tmp_path))
    for row in made[1].of("kept"):
        np.testing.assert_array_equal(read_image(tmp_path / row.file), street(8 * row.frame.number))


def test_a_pair_of_two_sizes_is_left_out(tmp_path: Path) -> None:
    sizes = [(120, 160) if number < 30 or number % 2 else (100, 140) for number in range(40)]
    images = (street(8 * number, height=height, width=width) for number, (height, width) in enumerate(sizes))
    recordings = Recordings.open([write_made_bag(tmp_path / "drive", images)])
    selection = select_frames(scan(recordings), SelectionConfig(stride_s=0, minimum=1, neighbours=20))
    assert selection.neighbours

    pairs = _extract((recordings, selection), tmp_path / "frames")["neighbours"]

    for pair in pairs:
        files = (tmp_path / "frames" / pair[key] for key in ("file", "after_file"))
        assert len({read_image(file).shape for file in files}) == 1
    assert len(pairs) < len(selection.neighbours)


def test_pairs_are_a_held_out_frame_and_the_next_image(made: tuple[Recordings, Selection], tmp_path: Path) -> None:
    pairs = _extract(made, tmp_path)["neighbours"]

    assert len(pairs) >= 2
    for pair in pairs:
        first, second = tmp_path / pair["after_file"], tmp_path / pair["file"]
        stamps = [int(path.stem.rsplit("_", 1)[1]) for path in (first, second)]
        assert stamps[1] - stamps[0] == 25 * 10**7
        assert read_image(second).shape == (120, 160, 3)


def test_a_rejected_frame_is_shown_with_its_reason(made: tuple[Recordings, Selection], tmp_path: Path) -> None:
    (row,) = [row for row in _extract(made, tmp_path)["rows"] if row["file"].startswith("rejected/")]

    assert row["reason"] == "dark"
    assert read_image(tmp_path / row["file"]).shape == (240, 320, 3)


def test_what_is_there_is_left_alone_and_what_is_missing_made(
    made: tuple[Recordings, Selection], tmp_path: Path
) -> None:
    first, files = _extract(made, tmp_path), _files(tmp_path)
    (tmp_path / files[0]).write_bytes(b"mine")
    (tmp_path / files[1]).unlink()

    second = _extract(made, tmp_path)

    assert (second, _files(tmp_path)) == (first, files)
    assert (tmp_path / files[0]).read_bytes() == b"mine"
    assert read_image(tmp_path / files[1]).shape == (120, 160, 3)
    assert not list(tmp_path.rglob("*.part"))


def test_the_whole_story_is_in_json_and_csv(made: tuple[Recordings, Selection], tmp_path: Path) -> None:
    values = _extract(made, tmp_path)

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

    assert len(result["neighbours"]) == len(made[1].neighbours) - 1
    assert not (tmp_path / pair.file).exists()


def test_other_recordings_than_those_scanned_are_refused(made: tuple[Recordings, Selection], tmp_path: Path) -> None:
    other = Recordings.open([write_made_bag(tmp_path / "other", (street(n) for n in range(80)), hz=3)])

    with pytest.raises(DataError, match="other images"):
        extract_frames(other, made[1], tmp_path / "frames")


def test_a_folder_that_cannot_be_written_is_one_sentence(made: tuple[Recordings, Selection], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataError, match="cannot be written"):
        extract_frames(*made, tmp_path / "file")
