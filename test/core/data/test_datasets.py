"""Image and label folders."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from street_images import write_street_images

from hrda_core.data.datasets import count_classes, pair_folders, read_labels
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


def test_palette_pngs_give_their_indices(tmp_path: Path) -> None:
    ids = np.array([[0, 7], [18, 255]], np.uint8)
    picture = Image.fromarray(ids, mode="P")
    picture.putpalette(list(range(256)) * 3)
    picture.save(tmp_path / "p.png")
    assert read_labels(tmp_path / "p.png").tolist() == ids.tolist()


def test_missing_folders_labels_and_broken_files_are_named(tmp_path: Path) -> None:
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
    with pytest.raises(DataError, match="same size"):
        pair_folders(images, labels).load(0)


def test_classes_are_counted_and_foreign_ids_refused(tmp_path: Path) -> None:
    images, labels = write_street_images(tmp_path, count=1)
    cv2.imwrite(str(labels / "train" / "frame0.png"), np.array([[0, 1, 1, 255]], np.uint8))
    assert count_classes(pair_folders(images, labels), 3).tolist() == [[1, 2, 0]]
    with pytest.raises(DataError, match=r"holds ids \[1\]"):
        count_classes(pair_folders(images, labels), 1)
