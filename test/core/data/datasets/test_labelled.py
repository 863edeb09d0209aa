"""Image and label folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from street_images import write_street_images

from hrda_core.data.datasets.labelled import (
    open_labelled,
    open_unlabelled_layout,
    pair_folders,
)
from hrda_core.data.image_files import read_labels, read_names
from hrda_core.errors import DataError


def test_images_are_paired_with_labels_of_the_same_relative_name(tmp_path: Path) -> None:
    pairs = pair_folders(*write_street_images(tmp_path, count=3))
    assert len(pairs) == 3
    image, labels = pairs.load(1)
    assert image.shape == (96, 128, 3)
    assert labels.shape == (96, 128)


def test_a_list_selects_and_orders(tmp_path: Path) -> None:
    folders = write_street_images(tmp_path, count=3)
    pairs = pair_folders(*folders, names=["train/frame2", "train/frame0"])
    assert [path.stem for path in pairs.images] == ["frame2", "frame0"]
    with pytest.raises(DataError, match="train/frame9"):
        pair_folders(*folders, names=["train/frame9"])


def test_a_list_may_name_the_split_although_the_folder_is_given(tmp_path: Path) -> None:
    images, labels = write_street_images(tmp_path, count=3)
    for names in (["train/frame1"], ["frame1.jpg"]):
        for pairs in (
            pair_folders(images / "train", labels / "train", names=names),
            open_labelled("folders", tmp_path, "train", names=names),
            open_labelled("folders", tmp_path, "", names=names),
            open_labelled("folders", None, "train", images=images, labels=labels, names=names),
        ):
            assert [path.stem for path in pairs.images] == ["frame1"]


def test_a_name_that_fits_two_images_is_refused(tmp_path: Path) -> None:
    images, _ = write_street_images(tmp_path, count=1)
    shutil.copytree(images / "train", images / "val")
    with pytest.raises(DataError, match="'frame0' fits several images"):
        open_unlabelled_layout("folders", tmp_path, "", names=["frame0"])
    assert len(open_unlabelled_layout("folders", tmp_path, "val", names=["frame0"])) == 1


def test_a_split_without_a_folder_is_an_error_that_lists_the_folders(tmp_path: Path) -> None:
    write_street_images(tmp_path, count=1)
    with pytest.raises(DataError, match=r"no folder 'val' \(found train\)"):
        open_labelled("folders", tmp_path, "val")
    with pytest.raises(DataError, match="root with both"):
        open_labelled("folders", None, "train", images=tmp_path)


def test_an_own_label_space_translates_the_ids(tmp_path: Path) -> None:
    write_street_images(tmp_path, count=1)
    space = tmp_path / "space.yaml"
    space.write_text("classes: [car, other]\npalette: [[0, 0, 0], [1, 1, 1]]\nids: {13: car, 0: other}\n")
    pairs = open_labelled("folders", tmp_path, "train", label_space=space)
    assert set(np.unique(pairs.load(0)[1])) == {0, 1, 255}


def test_the_lists_of_camvid_are_read_as_they_are(shared_dir: Path) -> None:
    root = shared_dir / "data" / "camvid"
    dusk = read_names(root / "splits" / "dusk_train.txt")
    assert len(open_labelled("folders", root, "train", names=dusk)) == 62
    assert len(open_labelled("folders", root, "", names=read_names(root / "splits" / "day_val.txt"))) == 101


def test_a_list_without_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# names\n\n a b \ntrain/c.png\n")
    assert read_names(path) == ("a b", "train/c.png")
    path.write_text("# none\n")
    with pytest.raises(DataError, match="holds no names"):
        read_names(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_names(tmp_path / "absent.txt")


def test_palette_pngs_give_their_indices(tmp_path: Path) -> None:
    ids = np.array([[0, 7], [18, 255]], np.uint8)
    picture = Image.fromarray(ids, mode="P")
    picture.putpalette(list(range(256)) * 3)
    picture.save(tmp_path / "p.png")
    assert read_labels(tmp_path / "p.png").tolist() == ids.tolist()


def test_f10_missing_folders_labels_and_broken_files_are_named(tmp_path: Path) -> None:
    images, labels = write_street_images(tmp_path, count=2)
    with pytest.raises(DataError, match="does not exist"):
        pair_folders(tmp_path / "absent", labels)
    with pytest.raises(DataError, match="no images"):
        pair_folders(labels.parent / "labels" / "none" if (labels / "none").mkdir() else labels / "none", labels)
    (labels / "train" / "frame1.png").write_bytes(b"no png")
    with pytest.raises(DataError, match=r"frame1\.png"):
        pair_folders(images, labels).load(1)
    (labels / "train" / "frame1.png").unlink()
    with pytest.raises(DataError, match=r"1 of 2 images have no label file, first missing: .*frame1\.png"):
        pair_folders(images, labels)
    (images / "train" / "frame0.jpg").write_bytes(b"no jpeg")
    with pytest.raises(DataError, match=r"frame0\.jpg"):
        pair_folders(images, labels, names=["train/frame0"]).load(0)


def test_colour_labels_and_other_sizes_are_refused(tmp_path: Path) -> None:
    images, labels = write_street_images(tmp_path, count=1)
    cv2.imwrite(str(labels / "train" / "frame0.png"), np.zeros((96, 128, 3), np.uint8))
    with pytest.raises(DataError, match="mode RGB"):
        pair_folders(images, labels).load(0)
    cv2.imwrite(str(labels / "train" / "frame0.png"), np.zeros((90, 128), np.uint8))
    with pytest.raises(DataError, match=r"frame0\.jpg' is \(96, 128\).*frame0\.png' are \(90, 128\)"):
        pair_folders(images, labels).load(0)


def test_files_that_macos_puts_beside_images_are_no_images(tmp_path: Path) -> None:
    images, labels = write_street_images(tmp_path, count=3)
    (images / "train" / "._frame0.png").write_bytes(b"Mac OS X")
    assert len(pair_folders(images, labels)) == 3
    for folder in ("images", "labels"):
        (tmp_path / "gta" / folder).mkdir(parents=True)
        shutil.copy(next(labels.rglob("*.png")), tmp_path / "gta" / folder / "00001.png")
        (tmp_path / "gta" / folder / "._00001.png").write_bytes(b"Mac OS X")
    assert [path.name for path in open_labelled("gta5", tmp_path / "gta", "train").images] == ["00001.png"]


def test_a_list_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes(b"\xef\xbb\xbftrain/frame2\r\ntrain/frame0\r\n")
    assert list(read_names(tmp_path / "names.txt")) == ["train/frame2", "train/frame0"]
