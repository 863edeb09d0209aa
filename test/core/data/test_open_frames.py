"""Folders of images without labels, and what else may be given for them."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from street_images import write_street_images

from hrda_core.data.frames import PerProcess
from hrda_core.data.image_files import image_size, read_image
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError


class _Counter:
    """A reader that knows the process that opened it."""

    def __init__(self) -> None:
        self.process, self.closed = os.getpid(), False

    def close(self) -> None:
        self.closed = True


def test_a_folder_is_searched_with_its_sub_folders(tmp_path: Path) -> None:
    images, _ = write_street_images(tmp_path, count=3)
    frames = pickle.loads(pickle.dumps(open_unlabelled(images)))
    assert len(frames) == 3
    np.testing.assert_array_equal(frames.load(2), read_image(images / "train" / "frame2.jpg"))
    assert list(frames.sizes()) == [(f"train/frame{number}.jpg", 96, 128) for number in range(3)]
    assert frames.describe() == f"3 images of '{images}'"


def test_a_list_selects_images_of_a_folder(tmp_path: Path) -> None:
    images, _ = write_street_images(tmp_path, count=3)
    frames = open_unlabelled(images, names=["frame2", "train/frame0.jpg"])
    np.testing.assert_array_equal(frames.load(0), read_image(images / "train" / "frame2.jpg"))
    assert len(frames) == 2
    with pytest.raises(DataError, match="frame9"):
        open_unlabelled(images, names=["frame9"])


def test_bad_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_unlabelled(tmp_path / "absent")
    with pytest.raises(DataError, match="no images"):
        open_unlabelled(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(DataError, match="no source of images by its name"):
        open_unlabelled(tmp_path / "a.txt")
    with pytest.raises(DataError, match="a topic"):
        open_unlabelled(tmp_path, topic="/camera")


def test_an_image_that_is_no_image_is_named_when_its_size_is_asked(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no png")
    with pytest.raises(DataError, match=r"a\.png"):
        list(open_unlabelled(tmp_path).sizes())


def test_the_size_in_the_header_is_that_of_the_loaded_image_even_if_it_lies_on_its_side(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(tmp_path / "side.jpg", exif=exif)
    assert image_size(tmp_path / "side.jpg") == read_image(tmp_path / "side.jpg").shape[:2] == (40, 20)


def test_each_process_opens_its_own_reader_and_an_error_opens_it_anew() -> None:
    shared = PerProcess(_Counter)
    with shared.use() as first:
        pass
    with shared.use() as again:
        assert again is first
    with pytest.raises(ValueError, match="x"), shared.use():
        raise ValueError("x")
    assert first.closed
    with shared.use() as second:
        assert second is not first
    copy = pickle.loads(pickle.dumps(shared))
    with copy.use() as other:
        assert other is not second
    shared._process = -1  # as after a fork
    with shared.use() as forked:
        assert forked is not second
    assert not second.closed


def test_a_folder_with_a_recording_in_it_is_a_recording(tmp_path: Path) -> None:
    images, _ = write_street_images(tmp_path, count=1)
    shutil.copy(images / "train" / "frame0.jpg", tmp_path / "a.jpg")
    (tmp_path / "metadata.yaml").write_text("a: b\n")
    pytest.importorskip("rosbags")
    with pytest.raises(DataError, match="recording"):
        open_unlabelled(tmp_path)


def test_a_grey_image_becomes_rgb(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 6), 77, np.uint8))
    image = open_unlabelled(tmp_path).load(0)
    assert image.shape == (4, 6, 3)
    assert (image == 77).all()
