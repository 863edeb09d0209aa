"""A drive cut out of the demo's recording: the same bytes, one light."""

from __future__ import annotations

from pathlib import Path

import pytest
from make_drive import main, write_drive
from rosbags.rosbag2 import Reader
from street_demo.paths import BAG
from street_demo.recording import open_recording


def test_a_drive_has_the_frames_of_its_light_byte_for_byte(tmp_path: Path) -> None:
    whole = open_recording(BAG)
    wanted = [image.raw for image in whole.images() if whole.light_at(image.stamp_ns) == "dusk"]
    assert write_drive("dusk", tmp_path / "sub" / "drive") == len(wanted) == 30
    with Reader(tmp_path / "sub" / "drive") as reader:
        assert [bytes(raw) for _, _, raw in reader.messages()] == wanted
    assert (tmp_path / "sub" / "drive" / "drive.mcap").is_file()
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["drive"]


def test_an_existing_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path)]) == 2
    assert "exists; delete it" in capsys.readouterr().err
