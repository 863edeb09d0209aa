"""Packs of a model's own sure predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from street_images import CAR, ROAD, SKY, write_street_images

from hrda_core.data.frames import UnlabelledFrames
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.data.packs.pseudo_pack import write_pseudo_pack
from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.errors import DataError
from hrda_core.labels import CITYSCAPES19

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]


class Model:
    """Sky above, road below, a doubtful car; counts its calls, and fails at one of them."""

    def __init__(self, fail_at: int = -1, sure_rows: int = 96) -> None:
        self.calls, self._fail_at, self._sure_rows = 0, fail_at, sure_rows

    def __call__(self, rgb: UInt8Array) -> tuple[UInt8Array, BoolArray]:
        if self.calls == self._fail_at:
            raise KeyboardInterrupt
        self.calls += 1
        labels = np.full(rgb.shape[:2], ROAD, np.uint8)
        labels[:48] = SKY
        labels[40:50, :20] = CAR
        sure = labels != CAR
        sure[self._sure_rows :] = False
        return labels, sure


@pytest.fixture
def frames(tmp_path: Path) -> UnlabelledFrames:
    return open_unlabelled(write_street_images(tmp_path / "data", count=4)[0])


def _write(frames: UnlabelledFrames, predict: Model, out: Path, **options: Any) -> SourcePack:
    return write_pseudo_pack(frames, predict, CITYSCAPES19, out, **{"name": "own", "model": "tiny", **options})


def test_sure_pixels_keep_the_prediction_and_the_others_are_not_labelled(
    frames: UnlabelledFrames, tmp_path: Path
) -> None:
    pack = _write(frames, Model(), tmp_path / "pack")
    assert (pack.kind, len(pack.train_pairs()), len(pack.held_out_pairs())) == ("pseudo", 4, 0)
    labels = pack.train_pairs().load(3)[1]
    assert np.unique(labels).tolist() == [ROAD, SKY, 255]
    assert (labels[40:50, :20] == 255).all()
    assert [image.ignored for image in pack.images] == [200] * 4


def test_the_table_says_which_classes_are_lost(frames: UnlabelledFrames, tmp_path: Path) -> None:
    table = _write(frames, Model(), tmp_path / "pack").table()
    assert "note: predicted, but never surely enough to be kept: car" in table
    car = next(line.split() for line in table.splitlines() if " car " in line)
    assert car[2:] == [f"{100 * 200 / (96 * 128):.3f}", "0.000", "4", "0", "0"]
    assert "predicted" in table
    assert "model's own labels" in table


def test_frames_with_too_few_sure_pixels_are_left_out(frames: UnlabelledFrames, tmp_path: Path) -> None:
    class Doubtful(Model):
        def __call__(self, rgb: UInt8Array) -> tuple[UInt8Array, BoolArray]:
            labels, sure = super().__call__(rgb)
            return labels, sure & (self.calls != 2)

    pack = _write(frames, Doubtful(), tmp_path / "pack")
    assert [image.name for image in pack.images] == ["frame_000000", "frame_000002", "frame_000003"]
    assert "note: 1 of 4 frames left out" in pack.table()
    assert len(_write(frames, Model(sure_rows=11), tmp_path / "few").images) == 4
    with pytest.raises(DataError, match="of 4 frames none has 10% of pixels"):
        _write(frames, Model(sure_rows=9), tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "few", "pack"]


def test_an_interrupted_pack_goes_on_where_it_stopped(frames: UnlabelledFrames, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _write(frames, Model(fail_at=3), tmp_path / "pack")
    assert not (tmp_path / "pack").exists()
    model = Model()
    resumed = _write(frames, model, tmp_path / "pack")
    assert model.calls == 1
    whole = _write(frames, Model(), tmp_path / "other")
    assert [image.to_dict() for image in resumed.images] == [image.to_dict() for image in whole.images]
    assert (resumed.path / "pack.yaml").read_bytes() == (whole.path / "pack.yaml").read_bytes()
    assert {path.name for path in resumed.path.iterdir()} == {path.name for path in whole.path.iterdir()}


@pytest.mark.parametrize("damage", ["torn note", "missing labels"])
def test_what_an_interruption_damaged_is_done_again(frames: UnlabelledFrames, tmp_path: Path, damage: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        _write(frames, Model(fail_at=2), tmp_path / "pack")
    part = tmp_path / "pack.part" / "pack"
    if damage == "torn note":
        note = part / "notes" / "frame_000000.json"
        note.write_bytes(note.read_bytes()[:-30])
    else:
        (part / "labels" / "frame_000001.png").unlink()
    model = Model()
    pack = _write(frames, model, tmp_path / "pack")
    assert model.calls == 3
    assert len(SourcePack.open(pack.path).images) == 4


def test_a_whole_pack_is_made_again_only_for_another_model(frames: UnlabelledFrames, tmp_path: Path) -> None:
    _write(frames, Model(), tmp_path / "pack")
    for options, calls in (({}, 0), ({"model": "other"}, 4)):
        model = Model()
        _write(frames, model, tmp_path / "pack", **options)
        assert model.calls == calls


def test_an_unfinished_pack_of_another_model_is_not_continued(frames: UnlabelledFrames, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _write(frames, Model(fail_at=3), tmp_path / "pack")
    model = Model()
    _write(frames, model, tmp_path / "pack", model="other")
    assert model.calls == 4


def test_progress_is_told_frame_by_frame(frames: UnlabelledFrames, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    _write(frames, Model(), tmp_path / "pack", progress=lambda *now: done.append(now))
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
