"""The stage `source` of an adaptation: labelled images from a pack, a data set, or the model's own predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hrda_core.adaptation.recipe import SourceFolder
from hrda_core.data.datasets.audit import audit
from hrda_core.data.datasets.class_statistics import ClassStatistics, class_statistics
from hrda_core.data.datasets.source_spec import LabelledSource, open_source
from hrda_core.data.frames import UnlabelledFrames, evenly_spaced
from hrda_core.data.image_files import BoolArray, UInt8Array
from hrda_core.data.packs.format import IMAGES, LABELS, TRAIN
from hrda_core.data.packs.pseudo_pack import write_pseudo_pack
from hrda_core.data.packs.selection import choose_images, shown_classes
from hrda_core.data.packs.source_pack import SourcePack, is_pack, write_source_pack
from hrda_core.errors import DataError
from hrda_core.inference import Predictor
from hrda_core.inference.bundle import MANIFEST_NAME, Bundle, file_record
from hrda_core.labels import CITYSCAPES19
from hrda_core.uda.rare_class_sampling import class_probabilities

__all__ = ["check_source", "count_labels", "open_or_make_pack", "pack_from_predictions", "pack_of", "source_folder"]

_TEMPERATURE = 0.01  # T of Rare Class Sampling in the paper
_IMAGES, _HELD_OUT = 200, 0.1
_SAMPLED_FRAMES = 24

Count = Callable[[int, int], None]


def check_source(spec: str) -> None:
    """Refuse a source that does not exist, before anything else is done; empty = none is asked for.

    Raises:
        DataError: nothing usable is there.
    """
    if spec and is_pack(Path(spec)):
        SourcePack.open(Path(spec))
    elif spec:
        open_source(spec)


def open_or_make_pack(
    spec: str, folder: Path, *, seed: int, say: Callable[[str], None], progress: Count, command: str
) -> SourcePack:
    """Open the pack that `spec` names, or make one of a data set in `folder` first (once).

    Args:
        spec: folder of a pack, or a data set as `hrda_core.data.datasets.source_spec.open_source` takes it.

    Raises:
        DataError: nothing usable is there, the labels do not pass the audit, or the classes are not Cityscapes'.
    """
    if is_pack(Path(spec)):
        return _checked(SourcePack.open(Path(spec)))
    if is_pack(folder):
        return SourcePack.open(folder)
    source = open_source(spec)
    if source.space.classes != CITYSCAPES19.classes:
        raise DataError(f"source '{spec}' has the classes of '{source.space.name}', expected {CITYSCAPES19.name}")
    say(f"packing {_IMAGES} of {len(source.pairs)} images of {source.name}")
    statistics = count_labels(source, say, progress)
    pack = pack_of(
        source, statistics, folder, images=_IMAGES, held_out=_HELD_OUT, seed=seed, command=command, progress=progress
    )
    return _checked(pack)


def count_labels(source: LabelledSource, say: Callable[[str], None], progress: Count) -> ClassStatistics:
    """Audit a data set and return its class counts.

    Raises:
        DataError: the audit stops on the labels.
    """
    statistics = class_statistics(source.pairs, len(source.space), progress=progress)
    if statistics.warning:
        say(statistics.warning)
    checked = audit(source.pairs, statistics, source.space)
    for sentence in checked.warnings:
        say(f"warning: {sentence}")
    if checked.stop:
        raise DataError(checked.stop[0])
    return statistics


def pack_of(
    source: LabelledSource,
    statistics: ClassStatistics,
    out: Path,
    *,
    images: int,
    held_out: float,
    seed: int,
    long_side: int = 1024,
    command: str = "",
    progress: Count | None = None,
) -> SourcePack:
    """Choose the images with the rarest classes, by the weights of Rare Class Sampling, and write them as a pack.

    Raises:
        DataError: see `write_source_pack`.
    """
    classes, probabilities = class_probabilities(statistics.counts.sum(axis=0), _TEMPERATURE)
    weights = np.zeros(len(source.space))
    weights[classes] = probabilities
    shown = shown_classes(statistics.counts, statistics.label_sizes)
    choice = choose_images(shown, weights, images, held_out=held_out, seed=seed)
    return write_source_pack(source, statistics, choice, out, long_side=long_side, command=command, progress=progress)


def pack_from_predictions(given: Bundle, frames: UnlabelledFrames, folder: Path, progress: Count) -> SourcePack:
    """Write the given model's confident predictions on the frames as a pack, in place of labels.

    The threshold of confidence is set for each class, as in class-balanced self-training (CBST, arXiv 1810.07911). One
    threshold for all would remove people and signs, of which a model is never as certain as of the road.

    Raises:
        DataError: the model is hardly certain of anything on any frame.
    """
    predictor = Predictor(given)
    thresholds = _sure_from(predictor, frames)

    def predict(rgb: UInt8Array) -> tuple[UInt8Array, BoolArray]:
        found = predictor(rgb)
        return found.labels, found.confidence >= thresholds[found.labels]

    model = f"{given.name} {file_record(given.file(MANIFEST_NAME))['sha256'][:12]}"
    return write_pseudo_pack(
        frames, predict, folder, name=f"sure predictions of {given.name}", model=model, progress=progress
    )


def _sure_from(predictor: Predictor, frames: UnlabelledFrames) -> UInt8Array:
    """Confidence from which a class counts as sure, uint8 (256,): its median over some frames, at most 0.9."""
    histograms = np.zeros((256, 256), np.int64)
    for index in evenly_spaced(range(len(frames)), _SAMPLED_FRAMES):
        found = predictor(frames.load(index))
        pairs = found.labels.astype(np.int64) * 256 + found.confidence
        histograms += np.bincount(pairs.reshape(-1), minlength=1 << 16).reshape(256, 256)
    half = histograms.sum(axis=1, keepdims=True) / 2
    medians = (histograms.cumsum(axis=1) >= half).argmax(axis=1)
    return np.asarray(np.minimum(medians, round(0.9 * 255)), np.uint8)


def source_folder(pack: SourcePack) -> SourceFolder:
    """Return the pack as the source of a recipe."""
    heights, widths = zip(*(image.size for image in pack.images), strict=True)
    return SourceFolder(
        name=pack.name,
        licence=pack.licence,
        images=pack.path / IMAGES,
        labels=pack.path / LABELS,
        names=pack.path / f"{TRAIN}.txt",
        height=int(np.median(heights)),
        width=int(np.median(widths)),
        rcs_min_pixels=pack.rcs_min_pixels,
    )


def _checked(pack: SourcePack) -> SourcePack:
    if pack.space.classes != CITYSCAPES19.classes:
        raise DataError(
            f"source pack '{pack.path}' has the classes of '{pack.space.name}', expected {CITYSCAPES19.name}; make it "
            f"again with a --label_space that names Cityscapes' classes"
        )
    if not len(pack.train_pairs()):
        raise DataError(f"source pack '{pack.path}' has no image to train on; make it again")
    return pack
