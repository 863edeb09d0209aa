"""Video frames by index. Each frame carries its number as a pattern of black and white squares."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError

COUNT = 130
BITS = 8
CONTAINERS = {"mp4v": ".mp4", "MJPG": ".avi", "XVID": ".avi", "FFV1": ".mkv"}


def _write(folder: Path, codec: str, count: int = COUNT) -> Path:
    path = folder / f"{codec}{CONTAINERS[codec]}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 10, (BITS * 16, 64))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV writes no {codec}")
    for number in range(count):
        bits = [255 * (number >> bit & 1) for bit in range(BITS)]
        writer.write(np.tile(np.repeat(np.array(bits, np.uint8), 16)[None, :, None], (64, 1, 3)))
    writer.release()
    return path


def _number(image: np.ndarray) -> int:
    means = image.reshape(64, BITS, 16, 3).mean(axis=(0, 2, 3))
    return int(sum(1 << bit for bit in range(BITS) if means[bit] > 128))


@pytest.mark.parametrize("codec", CONTAINERS)
def test_any_order_gives_the_frames_that_decoding_in_order_gives(tmp_path: Path, codec: str) -> None:
    frames = open_unlabelled(_write(tmp_path, codec))
    assert len(frames) == COUNT
    order = [0, 129, 128, 60, 1, 0, 100, 37, 127, *np.random.RandomState(0).randint(0, COUNT, 12)]
    assert [_number(frames.load(int(index))) for index in order] == order
    assert list(frames.sizes()) == [(f"{tmp_path / codec}{CONTAINERS[codec]} frame 0", 64, BITS * 16)]


class _BadSeeker:
    """A capture that lands beside the frame that it was asked for."""

    def __init__(self, path: str) -> None:
        self._capture = REAL_CAPTURE(path)

    def set(self, key: int, value: float) -> bool:
        return bool(self._capture.set(key, max(0, value + OFFSET["frames"])))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._capture, name)


REAL_CAPTURE = cv2.VideoCapture
OFFSET = {"frames": 0}


@pytest.mark.parametrize("offset", [-7, 5, 49, 70, 300])
def test_a_seek_that_misses_still_gives_the_right_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    path = _write(tmp_path, "mp4v")
    monkeypatch.setattr(cv2, "VideoCapture", _BadSeeker)
    monkeypatch.setitem(OFFSET, "frames", offset)
    frames = open_unlabelled(path)
    order = [129, 3, 90, 2, 120]
    assert [_number(frames.load(index)) for index in order] == order


def test_time_stamps_that_repeat_are_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = open_unlabelled(_write(tmp_path, "mp4v"))
    object.__setattr__(frames, "stamps", np.zeros(COUNT))
    assert [_number(frames.load(index)) for index in (100, 4, 70)] == [100, 4, 70]


def test_a_copy_in_another_process_opens_the_file_itself(tmp_path: Path) -> None:
    frames = open_unlabelled(_write(tmp_path, "mp4v", count=20))
    frames.load(7)
    copy = pickle.loads(pickle.dumps(frames))
    assert _number(copy.load(3)) == 3
    assert _number(frames.load(8)) == 8
    assert frames.describe().startswith("20 frames of video")
    with pytest.raises(IndexError):
        frames.load(20)


def test_broken_and_empty_videos_are_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = _write(tmp_path, "mp4v", count=5)
    for content in (b"", b"no video", path.read_bytes()[:200]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="convert it"):
            open_unlabelled(path)


def test_a_list_of_names_is_for_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a video"):
        open_unlabelled(_write(tmp_path, "mp4v", count=2), names=["a"])
