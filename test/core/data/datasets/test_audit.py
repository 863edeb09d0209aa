"""What the label audit stops on, and what it warns of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from street_images import CAR, write_street_images

from hrda_core.data.datasets.audit import LabelAudit, audit
from hrda_core.data.datasets.class_statistics import class_statistics
from hrda_core.data.datasets.labelled import ImageLabelPairs, pair_folders
from hrda_core.errors import LabelSpaceError
from hrda_core.labels import CITYSCAPES19, CITYSCAPES_IDS, LabelSpace


@pytest.fixture
def pairs(tmp_path: Path) -> ImageLabelPairs:
    return pair_folders(*write_street_images(tmp_path / "data", count=3))


def _audit(pairs: ImageLabelPairs, tmp_path: Path, space: LabelSpace = CITYSCAPES19) -> LabelAudit:
    return audit(pairs, class_statistics(pairs, len(space), cache=tmp_path / "cache"), space)


def _relabel(path: Path, label: int) -> None:
    cv2.imwrite(str(path), np.full((96, 128), label, np.uint8))


def test_good_data_passes_and_absent_classes_are_named(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    result = _audit(pairs, tmp_path)
    assert result.stop == ()
    assert len(result.warnings) == 1
    assert result.warnings[0].startswith("no pixel of: sidewalk, building")
    assert "car" not in result.warnings[0]


def test_the_table_lists_shares_and_images_of_each_class(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    _relabel(pairs.labels[0], 255)
    result = _audit(pairs, tmp_path)
    lines = result.table().splitlines()
    assert lines[0] == f"{pairs.name}: 3 labelled images"
    road = next(line.split() for line in lines if " road" in line)
    share = 100 * sum(int((pairs.load(i)[1] == 0).sum()) for i in range(3)) / (3 * 96 * 128)
    assert road == ["0", "road", f"{share:.3f}", "2"]
    assert any(line.split() == ["ignored", "33.333"] for line in lines)
    assert sum("warning:" in line for line in lines) == len(result.warnings) == 2
    assert "ignored in every pixel" in result.warnings[1]
    assert "frame0.png" in result.warnings[1]


def test_f6_f10_ids_outside_the_space_stop_with_file_and_ids(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    _relabel(pairs.labels[1], 40)
    result = _audit(pairs, tmp_path)
    assert len(result.stop) == 1
    assert "1 label files hold ids 40 " in result.stop[0]
    assert "frame1.png" in result.stop[0]
    assert "STOP: " + result.stop[0] in result.table()


def test_ids_that_a_table_does_not_know_are_a_warning(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    for path in pairs.labels:
        cv2.imwrite(str(path), np.tile(np.array([[7, 26], [0, 99]], np.uint8), (48, 64)))
    result = _audit(replace(pairs, ids=CITYSCAPES_IDS), tmp_path)
    assert result.stop == ()
    assert "hold ids 99 that 'Cityscapes ids' does not know" in result.warnings[1]


def test_f10_sizes_that_differ_stop_with_both_sizes(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    cv2.imwrite(str(pairs.labels[2]), np.zeros((90, 128), np.uint8))
    result = _audit(pairs, tmp_path)
    assert len(result.stop) == 1
    for part in ("frame2.png", "frame2.jpg", "128x90", "128x96"):
        assert part in result.stop[0]


def test_f10_unreadable_files_stop(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    pairs.labels[0].write_bytes(b"no png")
    pairs.images[1].write_bytes(b"no jpeg")
    (sentence,) = _audit(pairs, tmp_path).stop
    assert sentence.startswith("images or labels of 2 of 3 pairs cannot be read")
    assert "frame0.png" in sentence
    assert "frame1.jpg" in sentence


def test_f10_one_class_alone_stops(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    for path in pairs.labels:
        _relabel(path, CAR)
    assert "'car' is the only class" in _audit(pairs, tmp_path).stop[0]


def test_nothing_but_ignored_pixels_stops(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    for path in pairs.labels:
        _relabel(path, 255)
    result = _audit(pairs, tmp_path)
    assert "all are ignored" in result.stop[0]
    assert result.warnings == ()


def test_f10_no_image_at_all_stops(tmp_path: Path) -> None:
    assert "holds no labelled image" in _audit(ImageLabelPairs("none", (), ()), tmp_path).stop[0]


def test_statistics_of_another_space_are_refused(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    with pytest.raises(LabelSpaceError, match="count again"):
        audit(pairs, class_statistics(pairs, 5, cache=tmp_path / "cache"), CITYSCAPES19)


def test_many_bad_files_are_a_number_and_not_a_list(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    many = replace(pairs, images=pairs.images * 4, labels=pairs.labels * 4)
    for path in pairs.labels:
        _relabel(path, 77)
    sentence = next(sentence for sentence in _audit(many, tmp_path).stop if "77" in sentence)
    assert "12 label files" in sentence
    assert "and 9 more" in sentence
