"""Frames of a recording with labels that a model gave whole frames once."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_bundle import write_tiny_bundle
from tiny_network import TINY

from hrda_core.adaptation.stages import own_labels as stage
from hrda_core.adaptation.stages.own_labels import LABELLED_FRAMES, own_labels
from hrda_core.data.frames import ImageFrames
from hrda_core.inference.bundle import Bundle, write_manifest
from hrda_core.labels import IGNORE_LABEL
from hrda_core.models import create_model
from hrda_core.trainer.recipe import RuntimeConfig

RUNTIME = RuntimeConfig(device="cpu", threads=1)
SIZE = (64, 96)
_FILES = ("files", "format_version")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of a random network."""
    folder = write_tiny_bundle(
        tmp_path_factory.mktemp("start") / "start",
        preset="hrda_lite",
        overrides=TINY,
        graphs={"tiles": {"file": "model.onnx", "grid": [1, 1]}},
    )
    torch.manual_seed(0)
    save_file(create_model("hrda_lite", 19, **TINY).state_dict(), folder / "model.safetensors")
    manifest = {key: value for key, value in Bundle.open(folder).manifest.items() if key not in _FILES}
    write_manifest(folder, manifest)
    return Bundle.open(folder)


def _frames(folder: Path, count: int) -> ImageFrames:
    folder.mkdir()
    rng = np.random.default_rng(1)
    names = [f"{index:04d}.png" for index in range(count)]
    for name in names:
        small = rng.integers(0, 256, (4, 6, 3), np.uint8)
        cv2.imwrite(str(folder / name), cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_NEAREST))
    return ImageFrames("made up", folder, tuple(names))


def _label_all(start: Bundle, frames: ImageFrames, folder: Path) -> tuple[list[np.ndarray], list[int]]:
    steps: list[int] = []
    source = own_labels(start, frames, folder, RUNTIME, lambda done, total: steps.append(total))
    pairs = source.pack.train_pairs()
    assert source.held_out is None  # nothing can be measured on them
    return [pairs.load(index)[1] for index in range(len(pairs))], steps


def test_of_each_class_the_surest_two_thirds_are_kept(
    start: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of each frame is of a class that is sure, half of one that never is: both keep as much."""
    labels = np.repeat(np.array([[0, 5]], np.uint8), SIZE[1] // 2, axis=1).repeat(SIZE[0], axis=0)
    rows = np.arange(SIZE[0], dtype=np.uint8)[:, None]
    confidence = np.where(labels == 0, 180 + rows, 60 + rows).astype(np.uint8)
    monkeypatch.setattr(stage, "_labeller", lambda bundle, runtime: lambda rgb: (labels, confidence))
    found, _ = _label_all(start, _frames(tmp_path / "frames", 3), tmp_path / "pack")
    from_row = SIZE[0] // 3
    for kept in found:
        assert (kept[from_row:] == labels[from_row:]).all()
        assert (kept[:from_row] == IGNORE_LABEL).all()


def test_a_mirrored_frame_gets_mirrored_labels(start: Bundle, tmp_path: Path) -> None:
    label = stage._labeller(start, RUNTIME)
    rgb = _frames(tmp_path / "frames", 1).load(0)
    labels, confidence = label(rgb)
    mirrored, other = label(np.ascontiguousarray(rgb[:, ::-1]))
    assert labels.shape == confidence.shape == SIZE
    assert (mirrored[:, ::-1] == labels).mean() > 0.99
    assert np.abs(other[:, ::-1].astype(int) - confidence).max() <= 1


def test_frames_are_labelled_enlarged_too(start: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = _frames(tmp_path / "frames", 1).load(0)
    both = stage._labeller(start, RUNTIME)(rgb)[1]
    monkeypatch.setattr(stage, "_ZOOMS", (1.0,))
    assert (stage._labeller(start, RUNTIME)(rgb)[1] != both).any()


def test_of_many_frames_some_are_labelled_from_the_first_to_the_last(
    start: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames, seen = _frames(tmp_path / "frames", LABELLED_FRAMES + 10), []
    sure = np.full(SIZE, 255, np.uint8)
    monkeypatch.setattr(stage, "_labeller", lambda bundle, runtime: lambda rgb: (np.zeros(SIZE, np.uint8), sure))
    load = ImageFrames.load
    monkeypatch.setattr(ImageFrames, "load", lambda self, index: (seen.append(self.files[index]), load(self, index))[1])
    found, steps = _label_all(start, frames, tmp_path / "pack")
    assert len(found) == steps[-1] == LABELLED_FRAMES
    assert {frames.files[0], frames.files[-1]} <= set(seen)


def test_no_frame_is_labelled_twice(start: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frames on which it is measured how sure the model is are among those that get labels."""
    answer, calls = (np.zeros(SIZE, np.uint8), np.full(SIZE, 255, np.uint8)), []
    monkeypatch.setattr(stage, "_labeller", lambda bundle, runtime: lambda rgb: (calls.append(0), answer)[1])
    found, _ = _label_all(start, _frames(tmp_path / "frames", 30), tmp_path / "pack")
    assert len(found) == len(calls) == 30


def test_a_finished_pack_is_not_made_again(start: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = _frames(tmp_path / "frames", 2)
    first, _ = _label_all(start, frames, tmp_path / "pack")
    monkeypatch.setattr(stage, "_surest", lambda label, frames: pytest.fail("it is there already"))
    second, steps = _label_all(start, frames, tmp_path / "pack")
    assert steps == []
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
