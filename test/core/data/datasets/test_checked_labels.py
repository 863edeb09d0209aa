"""Labels are checked in one place: what is bad stops with a full list, or is left out and counted."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from street_images import write_street_images

from hrda_core.data.datasets.checked_labels import check_labels
from hrda_core.data.datasets.labelled import open_labelled, open_unlabelled_layout, pair_folders
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError
from hrda_core.labels import CITYSCAPES19


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Eight pairs, five of them bad in different ways."""
    images, labels = write_street_images(tmp_path / "data", count=8)
    cv2.imwrite(str(labels / "train" / "frame1.png"), np.zeros((96, 128, 3), np.uint8))
    cv2.imwrite(str(labels / "train" / "frame2.png"), np.zeros((96, 128), np.uint16))
    cv2.imwrite(str(labels / "train" / "frame3.png"), np.zeros((90, 128), np.uint8))
    cv2.imwrite(str(labels / "train" / "frame4.png"), np.full((96, 128), 40, np.uint8))
    (labels / "train" / "frame5.png").unlink()
    return images, labels


BAD = [f"frame{number}.jpg" for number in range(1, 6)]


def test_f10_bad_pairs_stop_and_all_of_them_are_listed_as_a_recipe_excludes_them(folders: tuple[Path, Path]) -> None:
    (folders[0] / "train" / "frame5.jpg").unlink()
    with pytest.raises(DataError, match=r"bad files are listed in '(.*\.yaml)'") as caught:
        check_labels(pair_folders(*folders), CITYSCAPES19)
    path = Path(str(caught.value).split("listed in '")[1].split("'")[0])
    names = yaml.safe_load(path.read_text())["exclude"]
    assert names == BAD[:4]
    for reason in ("mode RGB", "labels of 128x90 pixels", "ids 40 are no classes"):
        assert reason in path.read_text()
    pairs = open_labelled("folders", None, "", images=folders[0], labels=folders[1], exclude=names)
    assert len(check_labels(pairs, CITYSCAPES19).pairs) == 3


def test_f10_bad_pairs_are_skipped_and_counted_where_that_is_wanted(folders: tuple[Path, Path]) -> None:
    pairs = pair_folders(*folders, on_bad="skip")
    said: list[str] = []
    checked = check_labels(pairs, CITYSCAPES19, on_bad="skip", say=said.append)
    assert [path.name for path in checked.pairs.images] == ["frame0.jpg", "frame6.jpg", "frame7.jpg"]
    assert checked.statistics.counts.shape == (3, 19)
    assert not len(checked.statistics.broken)
    assert "left out: 5 of 8 pairs that cannot be used (on_bad: skip)" in said[-1]
    listed = Path(said[-1].split("listed in '")[1].split("'")[0])
    assert yaml.safe_load(listed.read_text())["exclude"] == BAD
    assert "has no label file" in listed.read_text()


def test_a_data_set_of_bad_pairs_alone_stops_although_they_are_skipped(folders: tuple[Path, Path]) -> None:
    pairs = pair_folders(*folders, names=["train/frame1", "train/frame3"])
    with pytest.raises(DataError, match=r"holds no labelled image.*2 of 2 pairs that cannot be used"):
        check_labels(pairs, CITYSCAPES19, on_bad="skip")


def test_labels_of_a_single_class_are_enough_to_score_on_and_not_to_learn_from(tmp_path: Path) -> None:
    images, labels = write_street_images(tmp_path, count=1)
    cv2.imwrite(str(labels / "train" / "frame0.png"), np.full((96, 128), 3, np.uint8))
    pairs = pair_folders(images, labels)
    assert check_labels(pairs, CITYSCAPES19, scored=True).audit.warnings == ()
    with pytest.raises(DataError, match="'wall' is the only class"):
        check_labels(pairs, CITYSCAPES19)


def _gta(root: Path, unequal: str) -> None:
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for name in ("00001", "15188", unequal):
        cv2.imwrite(str(root / "images" / f"{name}.png"), np.zeros((20, 30, 3), np.uint8))
        ids = np.tile(np.array([7, 26], np.uint8), (20, 15))
        cv2.imwrite(str(root / "labels" / f"{name}.png"), ids[: 18 if name == unequal else 20])


@pytest.mark.parametrize("name", ["17705", "20801", "20860"])
def test_published_pairs_of_unequal_size_do_not_stop_the_data_set(tmp_path: Path, name: str) -> None:
    _gta(tmp_path / "gta", name)
    checked = check_labels(open_labelled("gta5", tmp_path / "gta", "train"), CITYSCAPES19)
    # A pair that is known to differ, but does not on this disk, is as good as any.
    assert sorted(path.stem for path in checked.pairs.images) == ["00001", "15188"]
    assert "left out: 1 of 3 pairs, of unequal size as published" in checked.audit.table()


def test_other_pairs_of_unequal_size_stop_it_as_before(tmp_path: Path) -> None:
    _gta(tmp_path / "gta", "20861")
    with pytest.raises(DataError, match=r"20861\.png'.*30x18.*30x20.*exclude or on_bad: skip"):
        check_labels(open_labelled("gta5", tmp_path / "gta", "train"), CITYSCAPES19)


def test_images_are_excluded_by_names_in_any_form_and_unknown_names_are_one_sentence(tmp_path: Path) -> None:
    images, labels = write_street_images(tmp_path, count=3)
    pairs = open_labelled("folders", tmp_path, "train", exclude=["train/frame0.jpg", "frame2"])
    assert [path.stem for path in pairs.images] == ["frame1"]
    assert len(open_unlabelled_layout("folders", tmp_path, "train", exclude=["frame2"])) == 2
    assert len(open_unlabelled(images, exclude=["frame2"])) == 2
    both = open_labelled("folders", tmp_path, "train", names=["frame1", "frame2"], exclude=["frame2"])
    assert [path.stem for path in both.images] == ["frame1"]
    with pytest.raises(DataError, match=r"2 excluded images are not below '.*', first 'frame7'"):
        open_labelled("folders", tmp_path, "train", exclude=["frame7", "frame0", "frame9"])
    with pytest.raises(DataError, match="exclude leaves none of 1 images"):
        open_labelled("folders", tmp_path, "train", names=["frame1"], exclude=["frame1"])
    assert labels.is_dir()


def test_a_name_of_which_a_folder_has_two_cannot_be_excluded_without_the_folder(tmp_path: Path) -> None:
    for part in ("a", "b"):
        write_street_images(tmp_path / "data" / part, count=1)
    with pytest.raises(DataError, match=r"the excluded name 'frame0\.jpg' fits several images"):
        open_unlabelled(tmp_path / "data", exclude=["frame0.jpg"])
    assert len(open_unlabelled(tmp_path / "data", exclude=["a/images/train/frame0.jpg"])) == 3
