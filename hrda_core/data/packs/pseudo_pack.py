"""Packs without a source: a model's own sure predictions on unlabelled frames stand for the labels.

For adaptation where no labelled data is at hand. What it gives up: mistakes of which the model is sure are learnt
again, classes of which it is never sure are forgotten, and nothing labelled is left to measure forgetting on.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hrda_core.data.frames import ImageFrames, UnlabelledFrames
from hrda_core.data.image_files import UInt8Array
from hrda_core.data.packs.format import TRAIN, ClassTotals, PackImage, check_files, is_pack
from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.data.packs.writer import PackWriter, pack_writer
from hrda_core.errors import DataError, RecipeError
from hrda_core.labels import CITYSCAPES19, IGNORE_LABEL, LabelSpace
from hrda_core.whole_files import write_json

__all__ = ["Predict", "write_pseudo_pack"]

Predict = Callable[[UInt8Array], tuple[UInt8Array, UInt8Array]]
"""RGB uint8 (H, W, 3) -> class ids and confidence (probability times 255), uint8 (H, W) each."""

_NOTES = "notes"
"""Folder of the unfinished pack: a file for each finished frame, written when its image and labels are whole."""


def write_pseudo_pack(
    frames: UnlabelledFrames,
    predict: Predict,
    out: Path,
    *,
    min_confidence: float = 0.9,
    min_sure: float = 0.1,
    long_side: int = 1024,
    space: LabelSpace = CITYSCAPES19,
    name: str = "own predictions",
    licence: str = "unknown",
    model: str = "",
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> SourcePack:
    """Label frames by the model's sure predictions and write them as a pack of kind `pseudo`, nothing held out.

    An interrupted call is taken up where it stopped by the next one with the same arguments; a whole pack made with
    the same arguments is returned as it is.

    Args:
        frames: unlabelled images of the target.
        predict: the model.
        out: folder of the pack: absent, empty or a pack.
        min_confidence: pixels of lower probability (0 to 1) become 255.
        min_sure: frames with a smaller share of sure pixels are left out.
        long_side: larger frames are shrunk to this after the prediction, pixels; 0 = never.
        space: classes that `predict` gives.
        name, licence: of the frames.
        model: identifies the model, such as its name and hash: a pack of another model is not continued.
        command: the command line, for the record.
        progress: called with frames done and frames in all.

    Raises:
        RecipeError: a threshold outside 0..1.
        DataError: no frame with enough sure pixels, a frame that cannot be read, or `out` cannot be written.
    """
    for option, value in (("min_confidence", min_confidence), ("min_sure", min_sure)):
        if not 0 <= value <= 1:
            raise RecipeError(f"{option} is {value}; give a share from 0 to 1")
    settings = {
        "frames": _identity(frames),
        "model": model,
        "name": name,
        "licence": licence,
        "min_confidence": float(min_confidence),
        "min_sure": float(min_sure),
        "long_side": long_side,
        "classes": list(space.classes),
    }
    if (whole := _made_before(out, settings)) is not None:
        return whole
    threshold = math.ceil(255 * min_confidence - 1e-9)
    images, predicted = [], []
    with pack_writer(out, space, long_side=long_side, settings=settings) as writer:
        for index in range(len(frames)):
            note = writer.folder / _NOTES / f"frame_{index:06d}.json"
            if (finished := _finished(note, writer.folder, len(space))) is None:
                rgb = frames.load(index)
                labels, confidence = predict(rgb)
                sure, image = confidence >= threshold, None
                if sure.any() and sure.mean() >= min_sure:
                    image = writer.add(note.stem, TRAIN, rgb, np.where(sure, labels, np.uint8(IGNORE_LABEL)))
                finished = np.bincount(labels.reshape(-1), minlength=256)[: len(space)].tolist(), image
                write_json(note, {"predicted": finished[0], "image": None if image is None else image.to_dict()})
                if progress is not None:
                    progress(index + 1, len(frames))
            predicted.append(finished[0])
            images += [] if finished[1] is None else [finished[1]]
        _finish(writer, images, predicted, settings, command, space)
    return SourcePack.open(out)


def _finish(
    writer: PackWriter,
    images: Sequence[PackImage],
    predicted: Sequence[Sequence[int]],
    settings: Mapping[str, Any],
    command: str,
    space: LabelSpace,
) -> None:
    least, frames = settings["min_confidence"], len(predicted)
    if not images:
        shutil.rmtree(writer.folder)
        raise DataError(
            f"of {frames} frames none has {settings['min_sure']:.0%} of pixels of which the model is at least "
            f"{least:.0%} sure; lower min_confidence, or adapt with a source pack"
        )
    shutil.rmtree(writer.folder / _NOTES)
    counts = np.array(predicted, np.int64).reshape(-1, len(space))
    kept = np.array([image.pixels for image in images], np.int64).sum(axis=0)
    lost = [space.classes[number] for number in np.flatnonzero((counts.sum(axis=0) > 0) & (kept == 0))]
    left_out = frames - len(images)
    notes = [f"{left_out} of {frames} frames left out: too few sure pixels"] if left_out else []
    if lost:
        notes.append(f"predicted, but never surely enough to be kept: {', '.join(lost)}")
    facts = {
        "kind": "pseudo",
        "name": settings["name"],
        "licence": settings["licence"],
        "origin": {
            "labels": f"predictions of {settings['model'] or 'a model'} with a confidence of at least {least:.0%}",
            "frames": frames,
        },
        "whole": ClassTotals.of(counts, np.zeros(frames, np.int64)).to_dict(),
        "notes": notes,
        "command": command,
        "settings": dict(settings),
    }
    writer.finish(images, facts)


def _finished(note: Path, folder: Path, num_classes: int) -> tuple[list[int], PackImage | None] | None:
    """Predicted pixels of each class, and the image, of a frame that an interrupted call has finished."""
    try:
        entry = json.loads(note.read_text(encoding="utf-8"))
        image = None if entry["image"] is None else PackImage.from_dict(entry["image"], num_classes)
        if image is not None:
            check_files(folder, image, False)
        return [int(count) for count in entry["predicted"]], image
    except (OSError, KeyError, TypeError, ValueError, DataError):
        return None


def _made_before(out: Path, settings: Mapping[str, Any]) -> SourcePack | None:
    try:
        pack = SourcePack.open(out) if is_pack(out) else None
    except DataError:  # a damaged pack is made anew
        return None
    return pack if pack is not None and pack.manifest.get("settings") == settings else None


def _identity(frames: UnlabelledFrames) -> str:
    """Tells sets of frames apart by what they are called; the pictures are not opened."""
    files = "\n".join(frames.files) if isinstance(frames, ImageFrames) else ""
    return f"{frames.describe()}, {hashlib.sha256(f'{len(frames)} {files}'.encode()).hexdigest()[:12]}"
