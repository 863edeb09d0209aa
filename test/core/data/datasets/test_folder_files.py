"""Own folders: ends of names, sub-folders, patterns of folders, and masks in colours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hrda_core.data.datasets.checked_labels import check_labels
from hrda_core.data.datasets.folder_files import FolderFiles
from hrda_core.data.datasets.labelled import ImageLabelPairs, open_labelled
from hrda_core.data.datasets.source_spec import open_source
from hrda_core.data.label_colors import ColorReader
from hrda_core.errors import DataError, LabelSpaceError
from hrda_core.labels import CITYSCAPES19, LabelSpace

CITY = FolderFiles("_leftImg8bit.png", "_gtFine_labelIds.png")
ORCHARD = LabelSpace("orchard", ("soil", "tree", "night"), ((120, 80, 40), (20, 160, 30), (0, 0, 1)))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "cache"))


def _write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def _ids() -> np.ndarray:
    return np.tile(np.array([0, 1], np.uint8), (8, 6))


def _city(root: Path) -> tuple[Path, Path]:
    images, labels = root / "pictures", root / "truth"
    for name in ("ulm/a", "ulm/b", "bonn/c"):
        _write(images / f"{name}_leftImg8bit.png", np.zeros((8, 12, 3), np.uint8))
        _write(images / f"{name}_depth.png", np.zeros((8, 12, 3), np.uint8))
        _write(labels / f"{name}_gtFine_labelIds.png", _ids())
    return images, labels


def _open(images: Path, labels: Path, files: FolderFiles, **options: object) -> ImageLabelPairs:
    return open_labelled("folders", None, "", images=images, labels=labels, files=files, **options)  # type: ignore[arg-type]


def test_suffixes_pair_images_and_labels_in_sub_folders(tmp_path: Path) -> None:
    pairs = _open(*_city(tmp_path), CITY)
    assert [path.name for path in pairs.images] == [f"{name}_leftImg8bit.png" for name in "cab"]
    assert [path.name for path in pairs.labels] == [f"{name}_gtFine_labelIds.png" for name in "cab"]
    np.testing.assert_array_equal(pairs.load(0)[1], _ids())
    source = open_source("", images=tmp_path / "pictures", labels=tmp_path / "truth", files=CITY)
    assert len(source.pairs) == 3


@pytest.mark.parametrize("name", ["a", "ulm/a", "ulm/a_leftImg8bit.png", "a_leftImg8bit"])
def test_lists_name_images_with_and_without_their_suffix(tmp_path: Path, name: str) -> None:
    folders = _city(tmp_path)
    assert [path.name for path in _open(*folders, CITY, names=[name]).images] == ["a_leftImg8bit.png"]
    assert len(_open(*folders, CITY, exclude=[name])) == 2


def test_a_suffix_that_matches_nothing_shows_what_was_found(tmp_path: Path) -> None:
    images, labels = _city(tmp_path)
    with pytest.raises(DataError, match=r"ends with '_rgb\.png'; found 'bonn/c_depth\.png', .* and 2 more"):
        _open(images, labels, FolderFiles("_rgb.png", "_gtFine_labelIds.png"))
    with pytest.raises(DataError, match=r"expected '.*c_label\.png' and so on; found 'c_gtFine_labelIds\.png'"):
        _open(images, labels, FolderFiles("_leftImg8bit.png", "_label.png"))
    with pytest.raises(DataError, match=r"none of 6 images has a label file.*image_suffix and label_suffix"):
        _open(images, labels, FolderFiles(), on_bad="skip")
    with pytest.raises(DataError, match="go with layout 'folders'"):
        open_labelled("gta5", tmp_path, "train", files=CITY)


def test_a_star_in_the_path_stands_for_the_same_folder_in_both(tmp_path: Path) -> None:
    for drive in ("monday", "tuesday"):
        for name in ("1", "night/2"):
            _write(tmp_path / drive / "rgb" / f"{name}.png", np.zeros((8, 12, 3), np.uint8))
            _write(tmp_path / drive / "seg" / f"{name}_l.png", _ids())
    _write(tmp_path / "monday" / "thermal" / "1.png", np.zeros((8, 12, 3), np.uint8))
    files = FolderFiles(".png", "_l.png")
    pairs = _open(tmp_path / "*" / "rgb", tmp_path / "*" / "seg", files)
    expected = [f"{drive}/rgb/{name}.png" for drive in ("monday", "tuesday") for name in ("1", "night/2")]
    assert list(pairs.names) == expected
    assert all(
        image.parts[-3 if image.stem == "1" else -4] in label.parts
        for image, label in zip(pairs.images, pairs.labels, strict=True)
    )
    assert len(check_labels(pairs, CITYSCAPES19).pairs) == 4
    assert len(_open(tmp_path / "*" / "rgb", tmp_path / "*" / "seg", files, exclude=["monday/rgb/1"])) == 3
    with pytest.raises(DataError, match=r"differ in the number of \*"):
        _open(tmp_path / "*" / "rgb", tmp_path / "seg", files)


def _masks(root: Path, *masks: np.ndarray) -> tuple[Path, Path]:
    for number, mask in enumerate(masks):
        _write(root / "images" / f"{number}.png", np.zeros((*mask.shape[:2], 3), np.uint8))
        _write(root / "labels" / f"{number}.png", mask[..., ::-1])
    return root / "images", root / "labels"


def _mask() -> np.ndarray:
    table = np.asarray([*ORCHARD.palette, (0, 0, 0)], np.uint8)
    return table[np.arange(96).reshape(8, 12) % 4]


def test_colour_masks_become_the_ids_of_their_classes(tmp_path: Path) -> None:
    pairs = _open(*_masks(tmp_path, _mask()), FolderFiles(label_colors=True), space=ORCHARD)
    expected = np.array([0, 1, 2, 255], np.uint8)[np.arange(96).reshape(8, 12) % 4]
    np.testing.assert_array_equal(pairs.load(0)[1], expected)
    checked = check_labels(pairs, ORCHARD)
    assert checked.audit.pixels.tolist() == [24, 24, 24]
    assert checked.audit.ignored == 24
    # The same files under another palette are counted anew, and not as before.
    turned = LabelSpace("turned", ORCHARD.classes, (ORCHARD.palette[1], ORCHARD.palette[0], ORCHARD.palette[2]))
    again = _open(tmp_path / "images", tmp_path / "labels", FolderFiles(label_colors=True), space=turned)
    np.testing.assert_array_equal(again.load(0)[1] == 0, expected == 1)


def test_colours_of_a_label_space_file_count_and_palette_pngs_are_pictures_too(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("classes: [soil, tree]\npalette: [[9, 9, 9], [0, 0, 0]]\n")
    folders = _masks(tmp_path, _mask())
    picture = Image.fromarray(np.tile(np.array([3, 4], np.uint8), (8, 6)), mode="P")
    picture.putpalette([0] * 9 + [9, 9, 9] + [0] * 3)
    picture.save(folders[1] / "0.png")
    pairs = _open(*folders, FolderFiles(label_colors=True), label_space=tmp_path / "space.yaml")
    assert pairs.load(0)[1].tolist() == [[0, 1] * 6] * 8  # black is a class here


def test_colours_of_no_class_are_bad_pixels_with_their_count(tmp_path: Path) -> None:
    bad = _mask()
    bad[0, :5] = (1, 2, 3)
    bad[1, 0] = (7, 7, 7)
    pairs = _open(*_masks(tmp_path, _mask(), bad), FolderFiles(label_colors=True), space=ORCHARD)
    sentence = (
        r"1\.png': 6 of 96 pixels have colours of no class of 'orchard': RGB \(1, 2, 3\) \(5\), \(7, 7, 7\) \(1\)"
    )
    with pytest.raises(DataError, match=sentence):
        check_labels(pairs, ORCHARD)
    assert len(check_labels(pairs, ORCHARD, on_bad="skip").pairs) == 1


def test_colours_that_two_classes_share_are_refused_and_masks_in_colours_name_the_setting(tmp_path: Path) -> None:
    with pytest.raises(LabelSpaceError, match=r"'a' and 'c' both have the colour \(1, 1, 1\)"):
        ColorReader(LabelSpace("x", ("a", "b", "c"), ((1, 1, 1), (2, 2, 2), (1, 1, 1))))
    with pytest.raises(DataError, match=r"mode RGB.*give label_colors: true"):
        check_labels(_open(*_masks(tmp_path, _mask()), FolderFiles()), ORCHARD)
