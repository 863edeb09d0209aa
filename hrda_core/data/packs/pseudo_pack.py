"""Packs without a source: a model's own sure predictions on unlabelled frames stand for the labels.

For adaptation where no labelled data is at hand. What it gives up: mistakes of which the model is sure are learnt
again, classes of which it is never sure are forgotten, and nothing labelled is left to measure forgetting on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hrda_core.data.frames import ImageFrames, UnlabelledFrames
from hrda_core.data.image_files import UInt8Array
from hrda_core.data.packs.format import TRAIN, ClassTotals, PackImage, check_files, is_pack
from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.data.packs.writer import PackWriter
from hrda_core.errors import DataError, RecipeError
from hrda_core.labels import CITYSCAPES19, IGNORE_LABEL, LabelSpace

__all__ = ["Predict", "write_pseudo_pack"]

Predict = Callable[[UInt8Array], tuple[UInt8Array, UInt8Array]]
"""RGB uint8 (H, W, 3) -> class ids and confidence (probability times 255), uint8 (H, W) each."""

_JOURNAL = "journal.jsonl"  # first line: settings; then a line for each finished frame


@dataclass
class _Tally:
    """What became of the frames so far."""

    images: list[PackImage] = field(default_factory=list)
    predicted: list[list[int]] = field(default_factory=list)

    @property
    def done(self) -> int:
        return len(self.predicted)

    def add(self, predicted: list[int], image: PackImage | None) -> None:
        self.predicted.append(predicted)
        if image is not None:
            self.images.append(image)


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
    writer = PackWriter(out, space, long_side=long_side, keep=True)
    journal = writer.part / _JOURNAL
    tally = _read_journal(journal, settings, len(space))
    if tally is None:
        writer = PackWriter(out, space, long_side=long_side)
        tally = _Tally()
        _append(journal, settings)
    threshold = math.ceil(255 * min_confidence - 1e-9)
    for index in range(tally.done, len(frames)):
        rgb = frames.load(index)
        labels, confidence = predict(rgb)
        predicted = np.bincount(labels.reshape(-1), minlength=256)[: len(space)].tolist()
        sure = confidence >= threshold
        image = None
        if sure.any() and sure.mean() >= min_sure:
            image = writer.add(f"frame_{index:06d}", TRAIN, rgb, np.where(sure, labels, np.uint8(IGNORE_LABEL)))
        tally.add(predicted, image)
        _append(journal, {"predicted": predicted, "image": None if image is None else image.to_dict()})
        if progress is not None:
            progress(index + 1, len(frames))
    _finish(writer, tally, settings, command, space)
    return SourcePack.open(out)


def _finish(writer: PackWriter, tally: _Tally, settings: Mapping[str, Any], command: str, space: LabelSpace) -> None:
    least, count = settings["min_confidence"], len(tally.images)
    if not tally.images:
        writer.discard()
        raise DataError(
            f"of {tally.done} frames none has {settings['min_sure']:.0%} of pixels of which the model is at least "
            f"{least:.0%} sure; lower min_confidence, or adapt with a source pack"
        )
    predicted = np.array(tally.predicted, np.int64).reshape(-1, len(space))
    kept = np.array([image.pixels for image in tally.images], np.int64).sum(axis=0)
    lost = [space.classes[number] for number in np.flatnonzero((predicted.sum(axis=0) > 0) & (kept == 0))]
    notes = [f"{tally.done - count} of {tally.done} frames left out: too few sure pixels"] if count < tally.done else []
    if lost:
        notes.append(f"predicted, but never surely enough to be kept: {', '.join(lost)}")
    facts = {
        "kind": "pseudo",
        "name": settings["name"],
        "licence": settings["licence"],
        "origin": {
            "labels": f"predictions of {settings['model'] or 'a model'} with a confidence of at least {least:.0%}",
            "frames": tally.done,
        },
        "whole": ClassTotals.of(predicted, np.zeros(len(predicted), np.int64)).to_dict(),
        "notes": notes,
        "command": command,
        "settings": dict(settings),
    }
    writer.finish(tally.images, facts)


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


def _append(journal: Path, values: Mapping[str, Any]) -> None:
    try:
        with journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
    except OSError as error:
        raise DataError(f"'{journal}' cannot be written ({error.strerror}); free space and call again") from error


def _read_journal(journal: Path, settings: Mapping[str, Any], num_classes: int) -> _Tally | None:
    """Frames that an interrupted call finished; None where there is nothing to continue."""
    try:
        lines = journal.read_bytes().split(b"\n")[:-1]  # what follows the last line end was cut off
        if not lines or json.loads(lines[0]) != settings:
            return None
        tally = _Tally()
        for line in lines[1:]:
            entry = json.loads(line)
            image = None if entry["image"] is None else PackImage.from_dict(entry["image"], num_classes)
            if image is not None:
                check_files(journal.parent, image, False)
            tally.add([int(count) for count in entry["predicted"]], image)
    except (OSError, KeyError, TypeError, ValueError, DataError):
        return None
    _cut_torn_line(journal)
    return tally


def _cut_torn_line(journal: Path) -> None:
    content = journal.read_bytes()
    journal.write_bytes(content[: content.rfind(b"\n") + 1])
