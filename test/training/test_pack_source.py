"""`hrda pack-source` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from street_images import CAR, write_street_images

from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.errors import HrdaError
from hrda_training.pack_source import main

BUS = 15


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Thirty images, two of them with a bus."""
    images, labels = write_street_images(tmp_path / "data", count=30)
    for number in (11, 23):
        path = labels / "train" / f"frame{number}.png"
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert ids is not None
        ids[80:, 100:] = BUS
        cv2.imwrite(str(path), ids)
    return images.parent


def test_a_pack_has_every_class_and_the_table_and_json_say_so(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, result = tmp_path / "pack", tmp_path / "result.json"
    options = ["--source", str(data), "--out", str(out), "--images", "10", "--licence", "CC0", "--json", str(result)]
    assert main(options) == 0
    printed = capsys.readouterr()
    assert "10 labelled images of data, 1 held out" in printed.out
    assert "no licence" not in printed.err
    values = json.loads(result.read_text())
    assert (values["images_train"], values["images_held_out"], values["images_source"]) == (9, 1, 30)
    bus = values["classes"][BUS]
    assert bus["images_source"] == bus["images_train"] + bus["images_held_out"] == 2
    assert bus["images_train"] >= 1
    assert bus["pixel_share_pack"] > 2 * bus["pixel_share_source"]
    assert values["bytes"] == sum(path.stat().st_size for path in out.glob("*/*"))
    pack = SourcePack.open(out)
    assert pack.licence == "CC0"
    assert pack.manifest["command"].startswith("hrda pack-source --source")


def test_named_images_are_held_out_and_a_lower_quality_makes_the_pack_smaller(data: Path, tmp_path: Path) -> None:
    names = tmp_path / "held.txt"
    names.write_text("train/frame3\nframe11.png\n")
    options = ["--source", str(data), "--images", "30", "--held_out_names", str(names)]
    assert main([*options, "--out", str(tmp_path / "fine")]) == 0
    assert main([*options, "--out", str(tmp_path / "coarse"), "--quality", "40"]) == 0
    fine, coarse = SourcePack.open(tmp_path / "fine"), SourcePack.open(tmp_path / "coarse")
    assert {path.stem.split("_")[1] for path in coarse.held_out_pairs().images} == {"frame3", "frame11"}
    assert len(coarse.train_pairs()) == 28
    assert coarse.bytes < fine.bytes
    assert (fine.manifest["quality"], coarse.manifest["quality"]) == (95, 40)
    assert "JPEG of quality 40" in (tmp_path / "coarse" / "README.md").read_text()


def test_whom_to_name_stands_in_the_pack_and_its_readme(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "pack"
    assert main(["--source", str(data), "--out", str(out), "--attribution", "A. Painter, CC BY"]) == 0
    assert SourcePack.open(out).manifest["notes"] == ["Attribution: A. Painter, CC BY"]
    assert "\nAttribution: A. Painter, CC BY\n" in (out / "README.md").read_text()


def test_fewer_images_than_asked_are_all_taken(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--source", str(data), "--out", str(tmp_path / "pack"), "--held_out", "0"]) == 0
    printed = capsys.readouterr()
    assert "30 images only, fewer than the 200" in printed.err
    assert "no licence is recorded" in printed.err
    pack = SourcePack.open(tmp_path / "pack")
    assert (len(pack.train_pairs()), len(pack.held_out_pairs())) == (30, 0)


def test_two_folders_a_list_and_own_classes(data: Path, tmp_path: Path) -> None:
    names, space = tmp_path / "names.txt", tmp_path / "space.yaml"
    names.write_text("train/frame1\ntrain/frame2\ntrain/frame11\n")
    space.write_text(
        "classes: [rest, car]\npalette: [[1, 2, 3], [4, 5, 6]]\nids: {0: rest, 10: rest, 13: car, 15: car}\n"
    )
    options = ["--images_folder", str(data / "images"), "--labels_folder", str(data / "labels")]
    options += ["--names", str(names), "--label_space", str(space), "--out", str(tmp_path / "pack")]
    assert main(options) == 0
    pack = SourcePack.open(tmp_path / "pack")
    assert pack.space.classes == ("rest", "car")
    assert len(pack.images) == 3
    assert {label for pairs in (pack.train_pairs(),) for label in np.unique(pairs.load(0)[1])} == {0, 1}


def test_an_image_that_the_list_names_twice_is_one_image(data: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("train/frame1\ntrain/frame2\ntrain/frame1.png\ntrain/frame11\ntrain/frame2\n")
    options = ["--images_folder", str(data / "images"), "--labels_folder", str(data / "labels")]
    assert main([*options, "--names", str(names), "--held_out", "0.5", "--out", str(tmp_path / "pack")]) == 0
    assert len(SourcePack.open(tmp_path / "pack").images) == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--images", "0"], "--images is 0"),
        (["--held_out", "0.9"], "--held_out is 0.9"),
        (["--long_side", "10"], "--long_side is 10"),
        (["--seed", "-1"], "--seed is -1"),
        (["--quality", "0"], "--quality is 0"),
        (["--labels_folder", "x"], "give the data: --source SPEC, or --images_folder"),
        (["--heldout", "0.1"], "did you mean --held_out"),
        (["--split", "vall"], "no folder 'vall'"),
    ],
)
def test_mistakes_are_a_sentence(data: Path, tmp_path: Path, options: list[str], sentence: str) -> None:
    with pytest.raises(HrdaError, match=sentence):
        main(["--source", str(data), "--out", str(tmp_path / "pack"), *options])


def test_data_of_a_single_class_is_refused_and_nothing_written(data: Path, tmp_path: Path) -> None:
    for path in (data / "labels").rglob("*.png"):
        cv2.imwrite(str(path), np.full((96, 128), CAR, np.uint8))
    with pytest.raises(HrdaError, match="'car' is the only class"):
        main(["--source", str(data), "--out", str(tmp_path / "pack")])
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_missing_labels_are_named(data: Path, tmp_path: Path) -> None:
    (data / "labels" / "train" / "frame7.png").unlink()
    with pytest.raises(HrdaError, match=r"1 of 30 images have no label file, first missing: .*frame7\.png"):
        main(["--source", str(data), "--out", str(tmp_path / "pack")])


def test_a_folder_that_is_no_pack_is_refused_before_any_label_is_read(data: Path, tmp_path: Path) -> None:
    with pytest.raises(HrdaError, match="is not a source pack"):
        main(["--source", "/nowhere", "--out", str(data)])
