"""Source packs: written, opened, used as any labelled data, and never half there."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from street_images import CAR, ROAD, SKY, write_street_images

from hrda_core.data.datasets.class_statistics import class_statistics
from hrda_core.data.datasets.labelled import open_labelled
from hrda_core.data.datasets.source_spec import LabelledSource, open_source
from hrda_core.data.image_files import read_image, read_labels, read_names
from hrda_core.data.packs.selection import Choice
from hrda_core.data.packs.source_pack import SourcePack, is_pack, write_source_pack
from hrda_core.errors import DataError, HrdaError

CHOICE = Choice((0, 2, 3), (5,))


@pytest.fixture
def source(tmp_path: Path) -> LabelledSource:
    write_street_images(tmp_path / "data", count=6)
    return open_source(str(tmp_path / "data"), licence="CC0")


def _write(source: LabelledSource, out: Path, choice: Choice = CHOICE, **options: Any) -> SourcePack:
    statistics = class_statistics(source.pairs, len(source.space))
    return write_source_pack(source, statistics, choice, out, **options)


def test_a_pack_holds_the_chosen_images_with_the_same_labels(source: LabelledSource, tmp_path: Path) -> None:
    pack = _write(source, tmp_path / "pack")
    train, held_out = pack.train_pairs(), pack.held_out_pairs()
    assert (len(train), len(held_out)) == (3, 1)
    for pairs, rows in ((train, (0, 2, 3)), (held_out, (5,))):
        for index, row in enumerate(rows):
            image, labels = pairs.load(index)
            before, labels_before = source.pairs.load(row)
            np.testing.assert_array_equal(labels, labels_before)
            assert np.abs(image.astype(int) - before).mean() < 4  # JPEG
    assert (pack.kind, pack.licence, pack.scale, pack.name) == ("labelled", "CC0", 1.0, "data")
    assert "4 labelled images of data, 1 held out" in pack.describe()
    assert not (tmp_path / "pack.part").exists()


def test_the_totals_are_those_that_counting_gives(source: LabelledSource, tmp_path: Path) -> None:
    pack = _write(source, tmp_path / "pack", long_side=77)
    for part, pairs in (("train", pack.train_pairs()), ("held_out", pack.held_out_pairs())):
        counted, totals = class_statistics(pairs, 19), pack.totals(part)
        assert totals.pixels.tolist() == counted.counts.sum(axis=0).tolist()
        assert totals.showing.tolist() == np.count_nonzero(counted.counts, axis=0).tolist()
        assert (totals.images, totals.ignored) == (len(pairs), counted.ignored.sum())


def test_large_images_are_shrunk_and_labels_stay_in_their_place(tmp_path: Path) -> None:
    labels = np.full((96, 192), ROAD, np.uint8)
    labels[:48], labels[40:56, 60:120] = SKY, CAR
    for kind, pixels in (("images", labels * 15), ("labels", labels)):
        (tmp_path / "data" / kind).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data" / kind / "a.png"), pixels)
    pack = _write(open_source(str(tmp_path / "data")), tmp_path / "pack", Choice((0,), ()), long_side=64)
    image, small = pack.train_pairs().load(0)
    assert small.shape == (32, 64)
    assert pack.scale == pytest.approx(1 / 3)
    assert pack.rcs_min_pixels == round(3000 * 32 * 64 / (1914 * 1052))
    assert pack.images[0].native_size == (96, 192)
    # Labels 0, 10 and 13 are grey values 0, 150 and 195 of the image: inside of each area they must agree.
    for rows, columns, label in ((slice(0, 13), slice(0, 64), SKY), (slice(14, 18), slice(21, 39), CAR)):
        assert (small[rows, columns] == label).all()
        np.testing.assert_allclose(image[rows, columns], label * 15, atol=12)


def test_a_pack_is_a_plain_source_of_a_training_recipe(source: LabelledSource, tmp_path: Path) -> None:
    out = _write(source, tmp_path / "pack").path
    for part, count in (("train", 3), ("held_out", 1)):
        names = read_names(out / f"{part}.txt")
        pairs = open_labelled("folders", None, "train", images=out / "images", labels=out / "labels", names=names)
        assert len(pairs) == count
        assert [path.name for path in pairs.images] == list(names)
        assert pairs.load(0)[1].max() == CAR


def test_the_readme_names_origin_and_licence_and_its_recipe_is_yaml(source: LabelledSource, tmp_path: Path) -> None:
    pack = _write(source, tmp_path / "pack", command="hrda pack-source ...")
    text = (pack.path / "README.md").read_text()
    assert "Licence of the images and labels:** CC0" in text
    assert str(tmp_path / "data") in text
    assert "hrda pack-source ..." in text
    recipe = yaml.safe_load(text.partition("```yaml")[2].partition("```")[0])["source"]
    assert recipe["rcs_min_pixels"] == pack.rcs_min_pixels
    assert (recipe["name"], recipe["licence"]) == ("data", "CC0")


def test_the_table_sets_the_whole_beside_the_pack(source: LabelledSource, tmp_path: Path) -> None:
    table = _write(source, tmp_path / "pack").table()
    sky = next(line.split() for line in table.splitlines() if " sky " in line)
    whole = class_statistics(source.pairs, 19).counts.sum(axis=0)
    assert sky[0] == "10"
    assert sky[2] == f"{100 * whole[SKY] / whole.sum():.3f}"
    assert sky[4:] == ["6", "3", "1"]
    assert "no pixel of: sidewalk" in table


def test_an_older_pack_is_replaced_and_the_same_input_gives_the_same_bytes(
    source: LabelledSource, tmp_path: Path
) -> None:
    first = _write(source, tmp_path / "pack")
    before = {path.name: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
    _write(source, tmp_path / "pack", Choice((1,), ()))
    assert len(SourcePack.open(tmp_path / "pack").images) == 1
    _write(source, tmp_path / "pack")
    after = {path.name: path.read_bytes() for path in first.path.rglob("*") if path.is_file()}
    assert before == after
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "pack"]


@pytest.mark.parametrize("kind", ["folder", "file", "pack with more in it"])
def test_what_is_not_a_pack_is_never_replaced(source: LabelledSource, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "precious"
    kept = out / "diary.txt"
    if kind == "file":
        kept = out
    elif kind == "folder":
        out.mkdir()
    else:
        _write(source, out)
    kept.write_text("dear diary")
    with pytest.raises(DataError, match=r"not a source pack|also holds 'diary\.txt'"):
        _write(source, out)
    assert kept.read_text() == "dear diary"


def test_c4_a_full_disk_is_a_sentence_and_leaves_the_older_pack(
    source: LabelledSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(source, tmp_path / "pack")
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        if target.name.startswith("000003"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(
        DataError, match=r"cannot be written \(No space left on device\); nothing was written: free space"
    ):
        _write(source, tmp_path / "pack")
    assert len(SourcePack.open(tmp_path / "pack").images) == 4
    assert not (tmp_path / "pack.part").exists()


def test_f10_a_broken_image_stops_the_pack_and_names_the_file(source: LabelledSource, tmp_path: Path) -> None:
    statistics = class_statistics(source.pairs, 19)
    source.pairs.images[2].write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"frame2\.jpg"):
        write_source_pack(source, statistics, Choice((0, 2), ()), tmp_path / "pack")
    assert not is_pack(tmp_path / "pack")
    assert not (tmp_path / "pack.part").exists()


def test_changed_files_are_found_by_size_and_by_hash(source: LabelledSource, tmp_path: Path) -> None:
    pack = _write(source, tmp_path / "pack")
    label = pack.train_pairs().labels[1]
    content = label.read_bytes()
    label.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=label.name):
        SourcePack.open(pack.path)
    label.write_bytes(content[:-1])
    with pytest.raises(DataError, match=label.name):
        SourcePack.open(pack.path)
    label.unlink()
    with pytest.raises(DataError, match=f"{label.name}' is missing"):
        SourcePack.open(pack.path)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("format_version: 1", "format_version: 7", "format version 7, this release reads 1"),
        ("licence: CC0", "license: CC0", "lacks or garbles a key"),
        ("- name: 000000_frame0", "- name: ../frame0", "lacks or garbles a key"),
        ("part: train", "part: val", "lacks or garbles a key"),
        ("rcs_min_pixels: ", "rcs_min_pixels: .inf #", "lacks or garbles a key"),
        ("  pixels: [", f"  pixels: [{10**30}, ", "lacks or garbles a key"),
        ("images:", "images: [", "cannot be read"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_named(
    source: LabelledSource, tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    path = _write(source, tmp_path / "pack").path / "pack.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=sentence) as caught:
        SourcePack.open(path.parent)
    assert "pack.yaml" in str(caught.value)


def test_other_folders_are_no_packs(source: LabelledSource, tmp_path: Path) -> None:
    assert not is_pack(tmp_path / "nowhere")
    assert not is_pack(tmp_path / "data")
    (tmp_path / "data" / "pack.yaml").write_text("what: ever\n")
    assert not is_pack(tmp_path / "data")
    assert is_pack(_write(source, tmp_path / "pack").path)
    for folder in (tmp_path / "nowhere", tmp_path / "data"):
        with pytest.raises(HrdaError, match=folder.name):
            SourcePack.open(folder)


def test_f5_a_pipe_in_the_place_of_the_manifest_is_no_pack_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pack.yaml")
    asked = threading.Thread(target=is_pack, args=[tmp_path], daemon=True)
    asked.start()
    asked.join(10)
    assert not asked.is_alive()
    assert not is_pack(tmp_path)


def test_files_keep_readable_names_that_never_clash(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        for kind in ("images", "labels"):
            (tmp_path / kind / folder).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / kind / folder / "same näme.png"), np.array([[0, 1]], np.uint8))
    pack = _write(open_source(str(tmp_path)), tmp_path / "pack", Choice((0, 1), ()))
    assert [image.name for image in pack.images] == ["000000_same_n_me", "000001_same_n_me"]
    assert read_image(pack.train_pairs().images[0]).shape == (1, 2, 3)
    assert read_labels(pack.train_pairs().labels[0]).tolist() == [[0, 1]]
