"""Kinds of image files: what is read, and what is named as left out."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hrda_core.data.datasets.checked_labels import check_labels
from hrda_core.data.datasets.labelled import open_unlabelled_layout, pair_folders
from hrda_core.data.datasets.video_frames import open_capture
from hrda_core.data.frames import ImageFrames
from hrda_core.data.image_files import (
    encoded,
    image_size,
    opened_picture,
    read_image,
    read_labels,
    read_names,
    read_synthia_labels,
)
from hrda_core.data.label_colors import _read
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError
from hrda_core.labels import CITYSCAPES19

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def _write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_WEBP_QUALITY, 101] if path.suffix == ".webp" else []  # 101 = without loss
    assert cv2.imwrite(str(path), PICTURE[..., ::-1], options)


@pytest.mark.parametrize("suffix", [".bmp", ".png", ".tif", ".tiff", ".webp", ".TIF"])
def test_kinds_of_images_without_loss_are_read_to_the_bit(tmp_path: Path, suffix: str) -> None:
    _write(tmp_path / f"a{suffix}")
    frames = open_unlabelled(tmp_path)
    np.testing.assert_array_equal(frames.load(0), PICTURE)
    assert list(frames.sizes()) == [(f"a{suffix}", 20, 30)]


def test_a_turned_picture_has_the_same_size_by_its_header_and_by_its_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in (".jpg", ".png", ".webp"):
        path = tmp_path / f"a{suffix}"
        Image.fromarray(PICTURE).save(path, exif=exif)
        assert read_image(path).shape[:2] == image_size(path), suffix
    Image.fromarray(PICTURE).save(tmp_path / "a.tif", exif=exif)
    with pytest.raises(DataError, match="save it upright"):
        image_size(tmp_path / "a.tif")


def _write_lying_png(path: Path, height: int, width: int) -> None:
    """A grey picture whose header states another size than it has."""
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 0, 0, 0, 0))
    content = [header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    chunks = [(len(c) - 4).to_bytes(4, "big") + c + zlib.crc32(c).to_bytes(4, "big") for c in content]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.parametrize("side", [9000, 65000])
@pytest.mark.parametrize("read", [read_image, read_labels, read_synthia_labels, _read])
def test_m6_a_file_of_too_many_pixels_is_refused_by_its_header(
    tmp_path: Path, side: int, read: Callable[[Path], np.ndarray]
) -> None:
    _write_lying_png(tmp_path / "a.png", side, side)
    begin = time.process_time()
    with pytest.raises(DataError, match=r"a\.png.*(larger than 64 megapixels|decompression bomb)"):
        read(tmp_path / "a.png")
    assert time.process_time() - begin < 0.2


@pytest.mark.parametrize("read", [read_image, read_labels, read_synthia_labels, _read])
def test_m6_the_limit_of_pixels_is_the_one_that_was_declared(tmp_path: Path, read: Callable[..., np.ndarray]) -> None:
    path, stored = tmp_path / "a.png", np.zeros((1001, 1000), np.uint8)
    if read is read_synthia_labels:
        stored = np.zeros((1001, 1000, 3), np.uint16)
    cv2.imwrite(str(path), stored)
    assert read(path, max_megapixels=2).shape[:2] == (1001, 1000)
    with pytest.raises(DataError, match=r"1001 x 1000 pixels is larger than 1 megapixels .*max_megapixels"):
        read(path, max_megapixels=1)


def test_m6_a_png_whose_chunks_lie_about_their_length_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "lying.png"
    frames = [Image.new("RGB", (64, 48), color) for color in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    data = bytearray(path.read_bytes())
    data[data.index(b"fdAT") - 4] = 0x20  # 512 MB
    path.write_bytes(data)
    with pytest.raises(DataError, match="a part states more bytes than there are"):
        read_image(path)


def test_m6_pillow_sets_no_limit_beside_the_declared_one(tmp_path: Path) -> None:
    _write_lying_png(tmp_path / "a.png", 10_000, 20_000)
    assert image_size(tmp_path / "a.png") == (10_000, 20_000)
    with opened_picture(tmp_path / "a.png", 200) as file:
        assert file.size == (20_000, 10_000)


def test_m6_pairs_audit_and_frames_take_the_declared_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "cache"))
    images, labels = tmp_path / "images", tmp_path / "labels"
    for folder, stored in (
        (images, np.zeros((1001, 1000, 3), np.uint8)),
        (labels, np.arange(1000) % 2 + np.zeros((1001, 1), np.uint8)),
    ):
        folder.mkdir()
        cv2.imwrite(str(folder / "a.png"), stored)
    assert len(check_labels(pair_folders(images, labels, max_megapixels=2), CITYSCAPES19).pairs) == 1
    with pytest.raises(DataError, match="larger than 1 megapixels"):
        check_labels(pair_folders(images, labels, max_megapixels=1), CITYSCAPES19)
    assert open_unlabelled(images, max_megapixels=2).load(0).shape == (1001, 1000, 3)
    for frames in (
        open_unlabelled(images, max_megapixels=1),
        open_unlabelled_layout("folders", tmp_path, "", max_megapixels=1),
    ):
        with pytest.raises(DataError, match="larger than 1 megapixels"):
            frames.load(0)


@pytest.mark.parametrize("content", [b"", b"?", b"\xff\xd8\xff", b"#?RADIANCE\n\n-Y 70000 +X 70000\n"])
def test_m6_a_file_without_a_header_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png' cannot be read as an image"):
        read_image(tmp_path / "a.png")


def test_kinds_that_are_not_read_are_named_beside_those_that_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "cache"))
    images, labels = tmp_path / "images", tmp_path / "labels"
    for name in ("a.png", "b.tif"):
        _write(images / name)
        (labels / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str((labels / name).with_suffix(".png")), np.tile(np.array([0, 1], np.uint8), (20, 15)))
    for name in ("c.heic", "d.HEIC", "e.gif", "._f.gif", "notes.txt"):
        (images / name).write_bytes(b"?")
    assert "left out: 1 .gif, 2 .heic (images are read from .bmp" in open_unlabelled(images).describe()
    assert "2 .heic" in open_unlabelled_layout("folders", tmp_path, "").describe()
    checked = check_labels(pair_folders(images, labels), CITYSCAPES19)
    assert len(checked.pairs) == 2
    assert "left out: 1 .gif, 2 .heic" in checked.audit.table()


def test_a_folder_of_such_kinds_alone_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"?")
    with pytest.raises(DataError, match=r"no images .*; found 1 \.pgm"):
        ImageFrames.find(tmp_path)


def test_f7_a_picture_or_video_whose_name_is_no_text_is_refused_and_does_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.png")
    path.write_bytes(encoded(PICTURE))
    for read in (read_image, open_capture):
        with pytest.raises(DataError, match="png' has a name that is not UTF-8 and cannot be read; rename it"):
            read(path)


@pytest.mark.parametrize("read", [read_image, read_labels, read_synthia_labels, image_size, read_names])
def test_f10_a_named_pipe_or_a_device_among_the_files_is_one_sentence_and_nothing_waits_for_it(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    pipe, device = tmp_path / "pipe.png", tmp_path / "device.png"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path in (device, pipe):
        with pytest.raises(DataError, match="it is not a file"):
            read(path)


def test_f10_a_list_of_names_that_is_none_is_not_read_to_its_end(tmp_path: Path) -> None:
    listed = tmp_path / "names.txt"
    with listed.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(DataError, match="it is larger than 64 MiB"):
        read_names(listed)


def test_a_label_map_that_went_through_a_jpeg_is_refused_whatever_its_name(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 19, (40, 60), np.uint8)
    Image.fromarray(ids).save(tmp_path / "labels.png", "JPEG")
    with pytest.raises(DataError, match=r"not a label map \(a JPEG, which changes ids at every edge\); expected"):
        read_labels(tmp_path / "labels.png")
    for kind in ("PNG", "GIF", "BMP", "TIFF", "PPM"):
        Image.fromarray(ids).save(tmp_path / "labels.png", kind)
        assert (read_labels(tmp_path / "labels.png") == ids).all()


def test_f10_a_file_that_another_program_would_have_to_draw_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "labels.png"  # of these Pillow starts Ghostscript, if the machine has it
    path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\n%ImageData: 60 40 8 1 0 1 1 0\n%%EndComments\n"
        b"(/etc/passwd) (r) file\n%%EOF\n"
    )
    with Image.open(path) as file:
        assert file.format == "EPS"
    for read in (read_labels, image_size, read_image):
        with pytest.raises(DataError, match="its content is none of"):
            read(path)
