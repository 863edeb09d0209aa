"""The frames of a drive: every one has the same chance, whatever the drive is made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrda_core.comparison.drive import open_drive
from hrda_core.errors import DataError


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:03d}.png"), np.full((8, 8, 3), number, np.uint8))
    return folder


def test_images_and_recordings_and_videos_are_one_drive(tmp_path: Path) -> None:
    pytest.importorskip("rosbags")
    from made_bag import write_made_bag

    images = write_images(tmp_path / "images", 3)
    bag = write_made_bag(tmp_path / "bag", [np.full((8, 8, 3), 100 + number, np.uint8) for number in range(2)])
    video = tmp_path / "street.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for number in range(4):
        writer.write(np.full((48, 64, 3), 50 * number, np.uint8))
    writer.release()
    drive = open_drive([images, bag, video, images / "002.png"])
    assert len(drive) == 3 + 2 + 4 + 1
    assert [int(drive.load(number).mean()) for number in (0, 2, 3, 4, 9)] == [0, 2, 100, 101, 2]
    assert [drive.name(number) for number in (1, 4, 9)] == ["001.png", "bag, image 1", "002.png"]


def test_every_frame_has_the_same_chance(tmp_path: Path) -> None:
    drive = open_drive([write_images(tmp_path / "images", 25)])
    drawn = Counter(number for seed in range(1000) for number in drive.sample(10, seed))
    assert set(drawn) == set(range(25))
    assert min(drawn.values()) > 340
    assert max(drawn.values()) < 460
    assert all(len(set(drive.sample(10, seed))) == 10 for seed in range(20))
    assert drive.sample(25, 0) == drive.sample(100, 1) == list(range(25))


def test_a_drive_is_known_by_its_files_wherever_it_lies(tmp_path: Path) -> None:
    first = open_drive([write_images(tmp_path / "here" / "drive", 3)]).identity
    assert open_drive([write_images(tmp_path / "there" / "drive", 3)]).identity == first
    assert open_drive([write_images(tmp_path / "more" / "drive", 4)]).identity != first


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_drive([tmp_path / "nothing"])
