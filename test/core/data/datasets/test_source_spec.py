"""A data set in one word of a command line."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from street_images import write_street_images

from hrda_core.data.datasets.source_spec import open_source
from hrda_core.errors import DataError
from hrda_core.labels import CITYSCAPES19


def test_a_folder_is_read_whole_or_by_split(tmp_path: Path) -> None:
    write_street_images(tmp_path / "streets", count=3)
    source = open_source(str(tmp_path / "streets"))
    assert len(source.pairs) == len(open_source(str(tmp_path / "streets"), split="train").pairs) == 3
    assert (source.name, source.licence, source.space) == ("streets", "unknown", CITYSCAPES19)


def test_a_layout_brings_its_name_licence_and_ids(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / kind / "00001.png"), np.full((8, 8), 7, np.uint8))
    source = open_source(f"gta5:{tmp_path}")
    assert source.pairs.load(0)[1].max() == 0  # id 7 is road
    assert source.name == "GTA5 train"
    assert "research" in source.licence
    assert source.origin == f"gta5:{tmp_path}"
    named = open_source(f"gta5:{tmp_path}", name="mine", licence="CC0")
    assert (named.name, named.licence) == ("mine", "CC0")


def test_two_folders_anywhere_and_own_classes(tmp_path: Path) -> None:
    images, labels = write_street_images(tmp_path, count=2)
    space = tmp_path / "space.yaml"
    space.write_text("classes: [ground, rest]\npalette: [[1, 2, 3], [4, 5, 6]]\nids: {0: ground, 10: rest, 13: rest}\n")
    source = open_source("", images=images, labels=labels, label_space=space)
    assert source.space.classes == ("ground", "rest")
    assert np.unique(source.pairs.load(0)[1]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("nowhere", "'nowhere' is no folder and names no data set; give LAYOUT:ROOT"),
        ("", "is no folder"),
        ("gta6:/data", "'gta6' is not known; did you mean 'gta5'"),
        ("gta5:/nowhere", "does not exist"),
    ],
)
def test_what_names_nothing_is_told_in_a_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        open_source(spec)
