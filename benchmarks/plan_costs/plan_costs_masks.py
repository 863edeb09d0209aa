"""Masks of each arm of plan_costs.py on CamVid, one PNG for each frame, and their scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from plan_costs_arms import NESTED, OVERLAP, OVERLAP_GRAPH, Arm, arm_named, open_arm
from plan_costs_seams import near, only_near

from hrda_core.bench.record import ROOT
from hrda_core.data.datasets.labelled import ImageLabelPairs, open_labelled
from hrda_core.data.image_files import read_names
from hrda_core.labels import CAMVID11
from hrda_core.metrics import Boundaries, Confusion
from hrda_core.whole_files import write_whole
from hrda_core.window_plan import Size

__all__ = ["DAY", "DUSK", "FRAME", "Frames", "load_frames", "predict_masks", "scores"]

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

DAY, DUSK = "camvid_day_val", "camvid_dusk_score"
FRAME: Size = (360, 480)
SEAMS = (192, 256)
"""Row and column of the inner seams of 2 x 2 tiles on the padded frame, 384 x 512."""
BAND = 16
"""Pixels on either side of a seam."""
SURE = 0.6
"""Probability of its class from which on `overlap` counts as sure of a pixel."""


@dataclass(frozen=True)
class Frames:
    """Labelled frames of one set.

    Attributes:
        pairs: images and labels.
        names: names of the frames, for files.
        chosen: indices of those that are scored.
    """

    pairs: ImageLabelPairs
    names: list[str]
    chosen: list[int]

    @cached_property
    def outlined(self) -> tuple[BoolArray, BoolArray]:
        """Which groups have a judged boundary in the labels, anywhere and near seams; every arm is scored on those."""
        table, groups = CAMVID11.table(), len(CAMVID11.groups)
        whole, seams = Boundaries(groups), Boundaries(groups)
        for index in self.chosen:
            labels = table[self.pairs.load(index)[1]]
            whole.add(labels, labels)
            seams.add(labels, only_near(labels, SEAMS, BAND))
        return np.isfinite(whole.scores()), np.isfinite(seams.scores())


def load_frames(camvid: Path, every: int) -> dict[str, Frames]:
    """Load both sets; every nth frame of the day's video is scored, and all dusk frames.

    Raises:
        SystemExit: the data is not there.
    """
    if not (camvid / "images").is_dir():
        raise SystemExit(
            f"the CamVid frames are missing: '{camvid}' has no folder 'images'; give the folder with --camvid"
        )
    found = {}
    for split, step in ((DAY, every), (DUSK, 1)):
        names = read_names(ROOT / "config" / "splits" / f"{split}.txt")
        pairs = open_labelled("folders", None, "", images=camvid / "images", labels=camvid / "labels", names=names)
        found[split] = Frames(pairs, [Path(name).stem for name in names], list(range(0, len(pairs), step)))
    return found


def predict_masks(arm: Arm, frames: dict[str, Frames], work: Path) -> None:
    """Write the masks that are missing."""
    missing = {
        split: [index for index in part.chosen if not _mask_file(work, arm, split, part.names[index]).exists()]
        for split, part in frames.items()
    }
    if not any(missing.values()):
        return
    sample = [frames[DAY].pairs.load(0)[0], frames[DUSK].pairs.load(0)[0]]
    runner = open_arm(arm, work, FRAME, sample)
    for split, indices in missing.items():
        for index in indices:
            labels, confidence = runner(frames[split].pairs.load(index)[0])
            name = frames[split].names[index]
            if arm.name == OVERLAP_GRAPH and confidence is not None:
                _write(_confidence_file(work, split, name), confidence)
            _write(_mask_file(work, arm, split, name), labels)


def scores(arm: Arm, frames: dict[str, Frames], work: Path) -> dict[str, dict[str, Any]]:
    """Return the scores of an arm on each set for which it has masks."""
    found = {}
    for split, part in frames.items():
        names = [part.names[index] for index in part.chosen]
        if all(_mask_file(work, arm, split, name).exists() for name in names):
            found[split] = _scores(arm, split, part, work)
    return found


def _scores(arm: Arm, split: str, frames: Frames, work: Path) -> dict[str, Any]:
    table, groups = CAMVID11.table(), len(CAMVID11.groups)
    confusion, same = Confusion(groups), dict[str, list[float]]()
    whole, seams = Boundaries(groups), Boundaries(groups)
    for index in frames.chosen:
        mask = _read(_mask_file(work, arm, split, frames.names[index]))
        prediction, labels = table[mask], table[frames.pairs.load(index)[1]]
        confusion.add(prediction, labels)
        whole.add(prediction, labels)
        seams.add(prediction, only_near(labels, SEAMS, BAND))
        for key, value in _agreement(mask, work, split, frames.names[index]).items():
            same.setdefault(key, []).append(value)
    # Not those that are only predicted: whether one arm finds a single fence must not decide over a tenth of the mean.
    labelled = np.flatnonzero(confusion.counts.sum(axis=1))
    return {
        "frames": len(frames.chosen),
        "classes": len(labelled),
        "mean_iou": round(float(confusion.scores().iou[labelled].mean()), 5),
        "boundary_f": round(float(whole.scores()[frames.outlined[0]].mean()), 5),
        "seam_boundary_f": round(float(seams.scores()[frames.outlined[1]].mean()), 5),
        **{key: round(float(np.mean(values)), 5) for key, values in same.items()},
    }


def _agreement(mask: UInt8Array, work: Path, split: str, name: str) -> dict[str, float]:
    """Shares of pixels with the class of the two dearest plans: all, near seams, where `overlap` is sure."""
    file, found = _confidence_file(work, split, name), {}
    parts = {"": np.ones(mask.shape, np.bool_), "_near_seams": near(mask.shape, SEAMS, BAND)}
    if file.exists():
        parts["_where_sure"] = _read(file) >= SURE * 255
        found["sure"] = float(parts["_where_sure"].mean())
    for other in (NESTED, OVERLAP):
        path = _mask_file(work, arm_named(other), split, name)
        equal = mask == _read(path) if path.exists() else None
        found |= {
            f"same_as_{other}{key}": float(equal[part].mean()) for key, part in parts.items() if equal is not None
        }
    return found


def _mask_file(work: Path, arm: Arm, split: str, name: str) -> Path:
    return work / "masks" / arm.slug / split / f"{name}.png"


def _confidence_file(work: Path, split: str, name: str) -> Path:
    return work / "confidence" / split / f"{name}.png"


def _write(path: Path, mask: UInt8Array) -> None:
    write_whole(path, cv2.imencode(".png", mask)[1].tobytes())


def _read(path: Path) -> UInt8Array:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), np.uint8)
