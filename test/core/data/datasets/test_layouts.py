"""Public data sets, as downloaded."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from hrda_core.data.datasets.folder_files import FolderFiles
from hrda_core.data.datasets.labelled import open_labelled, open_unlabelled_layout
from hrda_core.data.datasets.layouts import LAYOUTS, find_layout, layout_names
from hrda_core.errors import DataError
from hrda_core.label_files import read_label_space
from hrda_core.trainer.recipe import check_keys
from hrda_core.trainer.recipe_data import SourceConfig

CITYSCAPES_NATIVE = [[7, 26], [34, 0]]
CITYSCAPES_TRAIN = [[0, 13], [255, 255]]
TRAIN_IDS = [[0, 18], [255, 13]]


def _palette(path: Path, ids: list[list[int]]) -> None:
    picture = Image.fromarray(np.asarray(ids, np.uint8), mode="P")
    picture.putpalette(list(range(256)) * 3)
    picture.save(path)


def _grey(path: Path, ids: list[list[int]]) -> None:
    cv2.imwrite(str(path), np.asarray(ids, np.uint8))


def _synthia(path: Path, ids: list[list[int]]) -> None:
    stored = np.zeros((2, 2, 3), np.uint16)
    stored[..., 2] = ids  # red
    stored[..., 1] = 4711  # number of the instance
    cv2.imwrite(str(path), stored)


Writer = Callable[[Path, list[list[int]]], None]

EXAMPLES: dict[str, tuple[str, str, str, Writer, list[list[int]], list[list[int]]]] = {
    # layout: split, image, label, writer of the label, ids in the file, train ids
    "gta5": ("train", "images/00001.png", "labels/00001.png", _palette, CITYSCAPES_NATIVE, CITYSCAPES_TRAIN),
    "synthia": (
        "train", "RGB/0000000.png", "GT/LABELS/0000000.png", _synthia, [[3, 8], [0, 22]], [[0, 13], [255, 255]],
    ),
    "cityscapes": (
        "val",
        "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png",
        "gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png",
        _grey, CITYSCAPES_NATIVE, CITYSCAPES_TRAIN,
    ),
    "acdc": (
        "train",
        "rgb_anon/night/train/GOPR0351/GOPR0351_frame_000159_rgb_anon.png",
        "gt/night/train/GOPR0351/GOPR0351_frame_000159_gt_labelTrainIds.png",
        _grey, TRAIN_IDS, TRAIN_IDS,
    ),
    "dark_zurich": (
        "val",
        "rgb_anon/val/night/GOPR0356/GOPR0356_frame_000321_rgb_anon.png",
        "gt/val/night/GOPR0356/GOPR0356_frame_000321_gt_labelTrainIds.png",
        _grey, TRAIN_IDS, TRAIN_IDS,
    ),
    "bdd100k": (
        "val", "images/10k/val/7d06fefd.jpg", "labels/sem_seg/masks/val/7d06fefd.png", _grey, TRAIN_IDS, TRAIN_IDS,
    ),
    "mapillary": (
        "val", "validation/images/abc.jpg", "validation/v1.2/labels/abc.png", _palette, [[13, 55], [65, 52]],
        [[0, 13], [255, 18]],
    ),
}  # fmt: skip


def _make(root: Path, layout: str) -> str:
    split, image, label, write, native, _ = EXAMPLES[layout]
    for path in (root / image, root / label):
        path.parent.mkdir(parents=True)
    cv2.imwrite(str(root / image), np.full((2, 2, 3), (10, 20, 30), np.uint8))
    write(root / label, native)
    return split


def test_every_layout_has_an_example() -> None:
    assert set(EXAMPLES) == set(LAYOUTS)


@pytest.mark.parametrize("layout", EXAMPLES)
def test_a_download_gives_train_ids_without_conversion(tmp_path: Path, layout: str) -> None:
    split = _make(tmp_path, layout)
    pairs = pickle.loads(pickle.dumps(open_labelled(layout, tmp_path, split)))
    image, labels = pairs.load(0)
    assert len(pairs) == 1
    assert labels.tolist() == EXAMPLES[layout][5]
    assert labels.dtype == np.uint8
    np.testing.assert_allclose(image[0, 0].astype(int), [30, 20, 10], atol=4)  # JPEG rounds


@pytest.mark.parametrize("layout", EXAMPLES)
def test_a_target_needs_no_labels(tmp_path: Path, layout: str) -> None:
    split, image, label, *_ = EXAMPLES[layout]
    _make(tmp_path, layout)
    shutil.rmtree((tmp_path / label).parent)
    frames = open_unlabelled_layout(layout, tmp_path, split)
    assert frames.load(0).shape == (2, 2, 3)
    assert list(frames.sizes()) == [(image, 2, 2)]
    with pytest.raises(DataError, match=r"1 of 1 images have no label file, first missing: .*png"):
        open_labelled(layout, tmp_path, split)


def test_mapillary_labels_are_found_in_the_folder_of_version_1_2_too(tmp_path: Path) -> None:
    _make(tmp_path, "mapillary")
    (tmp_path / "validation" / "v1.2" / "labels").rename(tmp_path / "validation" / "labels")
    assert open_labelled("mapillary", tmp_path, "val").load(0)[1].tolist() == EXAMPLES["mapillary"][5]


def test_one_condition_of_acdc_is_a_split_of_its_own(tmp_path: Path) -> None:
    _make(tmp_path, "acdc")
    assert len(open_labelled("acdc", tmp_path, "night/train")) == 1
    with pytest.raises(DataError, match="no images of ACDC"):
        open_labelled("acdc", tmp_path, "fog/train")


@pytest.mark.parametrize(
    "name",
    [
        "ulm_000000_000019",
        "ulm_000000_000019_leftImg8bit.png",
        "ulm/ulm_000000_000019",
        "val/ulm/ulm_000000_000019_leftImg8bit",
        "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png",
    ],
)
def test_a_list_may_write_a_name_in_any_usual_way(tmp_path: Path, name: str) -> None:
    _make(tmp_path, "cityscapes")
    assert len(open_labelled("cityscapes", tmp_path, "val", names=[name])) == 1


def test_a_label_space_file_replaces_the_table_of_the_layout(tmp_path: Path) -> None:
    _make(tmp_path, "gta5")
    space = tmp_path / "two.yaml"
    space.write_text("classes: [car, rest]\npalette: [[0, 0, 0], [1, 1, 1]]\nids: {26: car, 7: rest}\n")
    assert open_labelled("gta5", tmp_path, "train", label_space=space).load(0)[1].tolist() == [[1, 0], [255, 255]]


def test_unknown_layouts_and_splits_propose_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'cityscapes'"):
        open_labelled("cityscape", tmp_path, "train")
    with pytest.raises(DataError, match="did you mean 'train'"):
        open_labelled("cityscapes", tmp_path, "trian")
    with pytest.raises(DataError, match="split 'test' of Cityscapes has no labels"):
        open_labelled("cityscapes", tmp_path, "test")
    assert find_layout("gta5").name in layout_names()


def test_a_wrong_root_says_what_was_expected_and_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_labelled("gta5", tmp_path / "absent", "train")
    (tmp_path / "gta5").mkdir()
    with pytest.raises(DataError, match=r"expected 'images/\*\.png'.*found gta5"):
        open_labelled("gta5", tmp_path, "train")
    with pytest.raises(DataError, match="images and labels go with layout 'folders'"):
        open_labelled("gta5", tmp_path, "train", images=tmp_path, labels=tmp_path)


def test_an_eight_bit_file_is_no_synthia_label_map(tmp_path: Path) -> None:
    _make(tmp_path, "synthia")
    _grey(tmp_path / "GT" / "LABELS" / "0000000.png", [[3, 8], [0, 22]])
    with pytest.raises(DataError, match="expected a 16-bit RGB PNG"):
        open_labelled("synthia", tmp_path, "train").load(0)


def test_the_page_on_data_sets_names_every_layout_with_its_splits(repository: Path) -> None:
    lines = (repository / "docs" / "research" / "datasets.md").read_text(encoding="utf-8").splitlines()
    rows = {
        cells[1].strip(" `"): cells for line in lines if line.startswith("| `") and len(cells := line.split("|")) > 7
    }
    assert list(rows) == list(layout_names())
    for name, layout in LAYOUTS.items():
        assert layout.title.split()[0] in rows[name][2]
        for split in ("train", "val", "test"):
            assert (f"`{split}`" in rows[name][5]) == (split in layout.labelled), (name, split)
            assert (f"`{split}`" in rows[name][6]) == (split in layout.splits and split not in layout.labelled), (
                name,
                split,
            )


def test_the_source_of_the_page_is_one_of_a_recipe(repository: Path) -> None:
    page = (repository / "docs" / "research" / "datasets.md").read_text(encoding="utf-8")
    (block,) = (part.split("```")[0] for part in page.split("```yaml\n")[1:] if part.startswith("source:"))
    values = yaml.safe_load(block)
    check_keys(values)
    assert SourceConfig(**values["source"]).files == FolderFiles("_leftImg8bit.png", "_gtFine_labelIds.png")


def test_the_label_space_of_the_page_is_a_good_one(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs" / "research" / "datasets.md").read_text(encoding="utf-8")
    (block,) = (part.split("```")[0] for part in page.split("```yaml\n")[1:] if part.startswith("name: yard"))
    (tmp_path / "yard.yaml").write_text(block)
    space, ids = read_label_space(tmp_path / "yard.yaml")
    assert space.classes == ("floor", "robot")
    assert ids is not None
    assert ids.table[[7, 9, 3, 1]].tolist() == [0, 0, 1, 255]
