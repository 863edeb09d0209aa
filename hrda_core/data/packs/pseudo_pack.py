"""Packs without a source: a model's own confident predictions on unlabelled frames stand in for the labels.

They are for adaptation where no labelled data is at hand. The price is that mistakes of which the model is certain are
learnt again, classes of which it is never certain are forgotten, and no labels are left to measure forgetting on.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hrda_core.data.frames import ImageFrames, UnlabelledFrames
from hrda_core.data.image_files import BoolArray, UInt8Array
from hrda_core.data.packs.format import TRAIN, ClassTotals, PackImage, check_files, is_pack
from hrda_core.data.packs.source_pack import SourcePack
from hrda_core.data.packs.writer import PackWriter, pack_writer
from hrda_core.errors import DataError
from hrda_core.labels import IGNORE_LABEL, LabelSpace
from hrda_core.untrusted_text import read_json_file
from hrda_core.whole_files import write_json

__all__ = ["Predict", "write_pseudo_pack"]

Predict = Callable[[UInt8Array], tuple[UInt8Array, BoolArray]]
"""RGB uint8 (H, W, 3) -> class ids uint8 (H, W), and of which of them the model is sure, bool (H, W)."""

_MIN_SURE = 0.1
"""Frames with a smaller share of sure pixels are left out."""

_LONG_SIDE = 1024
"""Larger frames are shrunk to this after the prediction, pixels."""

_NOTES = "notes"
"""Folder of the unfinished pack: a file for each finished frame, written when its image and labels are whole."""


def write_pseudo_pack(
    frames: UnlabelledFrames,
    predict: Predict,
    space: LabelSpace,
    out: Path,
    *,
    name: str,
    model: str,
    progress: Callable[[int, int], None] | None = None,
) -> SourcePack:
    """Label frames by the model's confident predictions and write them as a pack of kind `pseudo`, nothing held out.

    An interrupted call is continued by the next one with the same arguments; a complete pack made with the same
    arguments is returned as it is.

    Args:
        frames: unlabelled images of the target.
        predict: the model. Pixels of which it is not certain become 255.
        space: the model's classes.
        out: folder of the pack: absent, empty or a pack.
        name: name of the pack.
        model: identifies the model, such as its name and hash: a pack of another model is not continued.
        progress: called with frames done and frames in all.

    Raises:
        DataError: no frame has enough confident pixels, a frame cannot be read, or `out` cannot be written.
    """
    settings = {"frames": _identity(frames), "model": model, "name": name}
    if (whole := _made_before(out, settings)) is not None:
        return whole
    images, predicted = [], []
    with pack_writer(out, space, long_side=_LONG_SIDE, settings=settings) as writer:
        for index in range(len(frames)):
            note = writer.folder / _NOTES / f"frame_{index:06d}.json"
            if (finished := _finished(note, writer.folder, len(space))) is None:
                rgb = frames.load(index)
                (labels, sure), image = predict(rgb), None
                if sure.mean() >= _MIN_SURE:
                    image = writer.add(note.stem, TRAIN, rgb, np.where(sure, labels, np.uint8(IGNORE_LABEL)))
                finished = np.bincount(labels.reshape(-1), minlength=256)[: len(space)].tolist(), image
                write_json(note, {"predicted": finished[0], "image": None if image is None else image.to_dict()})
                if progress is not None:
                    progress(index + 1, len(frames))
            predicted.append(finished[0])
            images += [] if finished[1] is None else [finished[1]]
        _finish(writer, images, predicted, space, settings)
    return SourcePack.open(out)


def _finish(
    writer: PackWriter,
    images: Sequence[PackImage],
    predicted: Sequence[Sequence[int]],
    space: LabelSpace,
    settings: Mapping[str, Any],
) -> None:
    frames = len(predicted)
    if not images:
        shutil.rmtree(writer.folder)
        raise DataError(
            f"of {frames} frames none has {_MIN_SURE:.0%} of pixels of which the model is sure; give a source pack"
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
        "licence": "unknown",
        "origin": {"labels": f"predictions of {settings['model']} where it was sure", "frames": frames},
        "whole": ClassTotals.of(counts, np.zeros(frames, np.int64)).to_dict(),
        "notes": notes,
        "command": "",
        "settings": dict(settings),
    }
    writer.finish(images, facts)


def _finished(note: Path, folder: Path, num_classes: int) -> tuple[list[int], PackImage | None] | None:
    """Predicted pixels of each class, and the image, of a frame that an interrupted call has finished."""
    try:
        entry = read_json_file(note)
        image = None if entry["image"] is None else PackImage.from_dict(entry["image"], num_classes)
        if image is not None:
            check_files(folder, image)
        return [int(count) for count in entry["predicted"]], image
    except (OSError, KeyError, TypeError, ValueError, OverflowError, DataError):
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
