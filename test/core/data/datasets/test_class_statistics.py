"""Counting once, and keeping the counts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from street_images import write_street_images

from hrda_core.data.datasets import class_statistics as module
from hrda_core.data.datasets.class_statistics import class_statistics
from hrda_core.data.datasets.labelled import ImageLabelPairs, open_labelled, pair_folders
from hrda_core.labels import CITYSCAPES_IDS, IdTable


@pytest.fixture
def pairs(tmp_path: Path) -> ImageLabelPairs:
    return pair_folders(*write_street_images(tmp_path / "data", count=4))


def _counted(pairs: ImageLabelPairs, cache: Path, classes: int = 19) -> int:
    """How many files were opened for it."""
    calls: list[int] = []
    class_statistics(pairs, classes, cache=cache, progress=lambda done, _: calls.append(done))
    return len(calls)


def test_counts_equal_those_of_a_plain_loop(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    statistics = class_statistics(
        pairs, 19, cache=tmp_path / "cache", progress=lambda done, total: calls.append((done, total))
    )
    for index, counts in enumerate(statistics.counts):
        assert counts.tolist() == [np.count_nonzero(pairs.load(index)[1] == label) for label in range(19)]
    assert statistics.counts.dtype == np.int64
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert statistics.image_sizes.tolist() == statistics.label_sizes.tolist() == [[96, 128]] * 4
    assert not statistics.warning


def test_native_ids_are_counted_as_the_classes_that_they_become(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    cv2.imwrite(str(pairs.labels[0]), np.array([[7, 7, 26, 0, 40, 255]], np.uint8))
    statistics = class_statistics(replace(pairs, ids=CITYSCAPES_IDS), 19, cache=tmp_path / "cache")
    assert statistics.counts[0, [0, 13]].tolist() == [2, 1]
    assert statistics.ignored[0] == 3
    assert np.flatnonzero(statistics.unknown[0]).tolist() == [40]
    assert not statistics.outside[0].any()


def test_ids_beyond_the_classes_are_outside_with_and_without_a_table(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    cv2.imwrite(str(pairs.labels[0]), np.array([[0, 1, 2, 3, 255]], np.uint8))
    plain = class_statistics(pairs, 2, cache=tmp_path / "cache")
    assert np.flatnonzero(plain.outside[0]).tolist() == [2, 3]
    table = IdTable.from_ids("t", {1: 0, 3: 2})
    mapped = class_statistics(replace(pairs, ids=table), 2, cache=tmp_path / "cache")
    assert np.flatnonzero(mapped.outside[0]).tolist() == [3]
    assert np.flatnonzero(mapped.unknown[0]).tolist() == [0, 2]


def test_big_label_maps_are_counted_exactly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_STRIP", 1000)
    ids = np.random.RandomState(0).randint(0, 256, (77, 91)).astype(np.uint8)
    np.testing.assert_array_equal(module._histogram(ids), np.bincount(ids.reshape(-1), minlength=256))


def test_the_second_time_no_file_is_opened(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    first = class_statistics(pairs, 19, cache=tmp_path / "cache")
    assert _counted(pairs, tmp_path / "cache") == 0
    second = class_statistics(pairs, 19, cache=tmp_path / "cache")
    for name in ("counts", "ignored", "outside", "unknown", "label_sizes", "image_sizes", "broken", "reasons"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("change", ["content", "fewer files", "table", "classes", "image"])
def test_what_changed_is_counted_again(pairs: ImageLabelPairs, tmp_path: Path, change: str) -> None:
    cache, classes = tmp_path / "cache", 19
    class_statistics(pairs, classes, cache=cache)
    if change in ("content", "image"):
        path = (pairs.labels if change == "content" else pairs.images)[1]
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "fewer files":
        pairs = replace(pairs, images=pairs.images[1:], labels=pairs.labels[1:])
    elif change == "table":
        pairs = replace(pairs, ids=CITYSCAPES_IDS)
    else:
        classes = 14
    assert _counted(pairs, cache, classes) == len(pairs)


@pytest.mark.parametrize("damage", [b"", b"no zip", None])
def test_a_damaged_cache_is_counted_again_and_replaced(
    pairs: ImageLabelPairs, tmp_path: Path, damage: bytes | None
) -> None:
    class_statistics(pairs, 19, cache=tmp_path / "cache")
    (kept,) = (tmp_path / "cache").rglob("*.npz")
    kept.write_bytes(kept.read_bytes()[:-40] if damage is None else damage)
    assert _counted(pairs, tmp_path / "cache") == 4
    assert _counted(pairs, tmp_path / "cache") == 0
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_a_cache_that_cannot_be_written_is_a_warning_and_no_more(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    statistics = class_statistics(pairs, 19, cache=tmp_path / "file" / "cache")
    assert statistics.counts.sum() == 4 * 96 * 128
    assert "HRDA_CACHE" in statistics.warning
    assert "\n" not in statistics.warning


def test_the_data_folder_is_never_written(
    pairs: ImageLabelPairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted((tmp_path / "data").rglob("*"))
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "own"))
    class_statistics(pairs, 19)
    assert sorted((tmp_path / "data").rglob("*")) == before
    assert len(list((tmp_path / "own").rglob("*.npz"))) == 1


def test_files_that_cannot_be_read_are_facts_and_no_error(pairs: ImageLabelPairs, tmp_path: Path) -> None:
    pairs.labels[0].write_bytes(pairs.labels[0].read_bytes()[:90])
    pairs.labels[1].unlink()
    pairs.images[2].write_bytes(b"no jpeg")
    statistics = class_statistics(pairs, 19, cache=tmp_path / "cache")
    assert statistics.broken.tolist() == [0, 1, 2]
    assert [
        path.name in str(reason)
        for path, reason in zip((pairs.labels[0], pairs.labels[1], pairs.images[2]), statistics.reasons, strict=True)
    ] == [True, True, True]
    assert statistics.label_sizes.tolist() == [[-1, -1], [-1, -1], [96, 128], [96, 128]]
    assert statistics.image_sizes[2].tolist() == [-1, -1]


def test_shares_of_camvid_equal_its_description(shared_dir: Path, tmp_path: Path) -> None:
    pairs = open_labelled("folders", shared_dir / "data" / "camvid", "val")
    statistics = class_statistics(pairs, 19, cache=tmp_path)
    share = 100 * statistics.counts.sum(axis=0) / (statistics.counts.sum() + statistics.ignored.sum())
    listed = {0: 28.953, 1: 8.719, 2: 25.962, 4: 3.078, 5: 0.564, 7: 0.892, 8: 16.336, 10: 9.177, 11: 0.651}
    listed |= {12: 2.217, 13: 1.746}
    np.testing.assert_allclose(share, [listed.get(label, 0) for label in range(19)], atol=6e-4)
