"""The stage `source` of an adaptation: labelled images from a pack or a data set.

Whatever they are stored as, they are read in the classes of the model: these must have the same names, or a label space
file leads from one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hrda_core.adaptation.recipe import SourceFolder
from hrda_core.data.datasets.checked_labels import check_labels
from hrda_core.data.datasets.class_statistics import ClassStatistics, class_statistics
from hrda_core.data.datasets.labelled import ImageLabelPairs, OnBad
from hrda_core.data.datasets.source_spec import LabelledSource, open_source
from hrda_core.data.frames import evenly_spaced
from hrda_core.data.packs.format import IMAGES, LABELS, MANIFEST, TRAIN
from hrda_core.data.packs.pack_folders import bring_back, is_shipped
from hrda_core.data.packs.selection import choose_images, shown_classes
from hrda_core.data.packs.source_pack import SourcePack, is_pack, write_source_pack
from hrda_core.data.packs.writer import QUALITY
from hrda_core.errors import DataError
from hrda_core.label_files import label_space_values, read_label_space
from hrda_core.label_matching import ids_by_name, same_names, some_names, space_difference
from hrda_core.labels import IGNORE_LABEL, IdTable, LabelSpace
from hrda_core.messages.picture_size import MAX_MEGAPIXELS
from hrda_core.uda.rare_class_sampling import class_probabilities

__all__ = [
    "ModelSource",
    "Wanted",
    "check_source",
    "count_labels",
    "open_or_make_pack",
    "pack_of",
]

_TEMPERATURE = 0.01  # T of Rare Class Sampling in the paper
_IMAGES, _HELD_OUT = 200, 0.1
_SAMPLED_LABELS = 16

Count = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """The classes in which labels are wanted.

    Attributes:
        space: classes of the model.
        label_space: label space file that leads to them, from ids or, for a pack, from the names of its classes; None =
            the classes of the labels have the same names.
    """

    space: LabelSpace
    label_space: Path | None = None


@dataclass(frozen=True, eq=False)
class ModelSource:
    """A pack whose labels are read in the classes of the model.

    Attributes:
        pack: the pack, as it lies there.
        space: classes of the model.
        ids: class ids of the pack -> those of the model; None = they are the same.
        remark: a sentence on what is not used of it, or empty.
    """

    pack: SourcePack
    space: LabelSpace
    ids: IdTable | None = None
    remark: str = ""

    @property
    def held_out(self) -> ImageLabelPairs | None:
        """Images that are measured on; None where their labels are predictions, or there are none."""
        pairs = replace(self.pack.held_out_pairs(), ids=self.ids)
        return pairs if len(pairs) and self.pack.kind == "labelled" else None

    @property
    def folder(self) -> SourceFolder:
        """The pack as the source of a recipe."""
        pack = self.pack
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
            label_space=None if self.ids is None else label_space_values(self.space, self.ids),
        )


def check_source(spec: str, wanted: Wanted, max_megapixels: int = MAX_MEGAPIXELS) -> None:
    """Refuse a source that does not exist or has other classes, before anything else is done; empty = none.

    Args:
        max_megapixels: how large its pictures may be, in millions of pixels.

    Raises:
        DataError: nothing usable is there, its classes differ, or its label files hold ids of no class.
        LabelSpaceError: the label space file is bad.
    """
    if spec and is_pack(Path(spec)):
        try:
            pack = SourcePack.open(Path(spec))
        except DataError as error:
            if is_shipped(Path(spec)):
                raise DataError(f"{error}: {bring_back(Path(spec).name)}") from error
            raise
        _of_model(pack, wanted)
    elif spec and is_shipped(Path(spec)):
        raise DataError(f"'{spec}' has no {MANIFEST}, its pack was taken away: {bring_back(Path(spec).name)}")
    elif spec:
        source = _data_set(spec, wanted, max_megapixels)
        _check_ids(source, spec)


def _check_ids(source: LabelledSource, spec: str) -> None:
    """Look into a few label files: ids of other classes shall be found before the recording is scanned."""
    pairs = source.pairs.take(evenly_spaced(range(len(source.pairs)), _SAMPLED_LABELS))
    found = class_statistics(pairs, len(source.space)).outside
    if found.any():
        ids = ", ".join(str(number) for number in np.flatnonzero(found.any(axis=0))[:10])
        first = pairs.labels[int(np.flatnonzero(found.any(axis=1))[0])]
        raise DataError(
            f"label files of source '{spec}' hold ids {ids}, expected classes of '{source.space.name}' "
            f"(0..{len(source.space) - 1}) or {IGNORE_LABEL}, for example '{first}'; give --label_space FILE whose ids "
            f"lead to the model's classes"
        )


def open_or_make_pack(
    spec: str,
    folder: Path,
    wanted: Wanted,
    *,
    seed: int,
    say: Callable[[str], None],
    progress: Count,
    command: str,
    max_megapixels: int = MAX_MEGAPIXELS,
) -> ModelSource:
    """Open the pack that `spec` names, or make one of a data set in `folder` first (once).

    Args:
        spec: folder of a pack, or a data set as `hrda_core.data.datasets.source_spec.open_source` takes it.

    Raises:
        DataError: nothing usable is there, the labels do not pass the audit, or their classes are not the model's.
        LabelSpaceError: the label space file is bad.
    """
    if is_pack(Path(spec)):
        return _of_model(SourcePack.open(Path(spec)), wanted)
    if is_pack(folder):
        return ModelSource(SourcePack.open(folder), wanted.space)
    source = _data_set(spec, wanted, max_megapixels)
    say(f"packing {_IMAGES} of {len(source.pairs)} images of {source.name}")
    source, statistics = count_labels(source, say, progress)
    pack = pack_of(
        source, statistics, folder, images=_IMAGES, held_out=_HELD_OUT, seed=seed, command=command, progress=progress
    )
    return ModelSource(_with_images(pack), wanted.space)


def _data_set(spec: str, wanted: Wanted, max_megapixels: int) -> LabelledSource:
    """Open a data set in the model's classes; plain folders without a label space file hold class ids of these."""
    source = open_source(spec, label_space=wanted.label_space, space=wanted.space, max_megapixels=max_megapixels)
    if not same_names(source.space, wanted.space):
        raise DataError(_other_classes(f"source '{spec}'", source.space, wanted))
    ids = ids_by_name(source.space, source.pairs.ids, wanted.space)
    return replace(source, pairs=replace(source.pairs, ids=ids), space=wanted.space)


def _of_model(pack: SourcePack, wanted: Wanted) -> ModelSource:
    """Read a pack in the model's classes."""
    space, ids, remark, what = pack.space, None, "", f"source pack '{pack.path}'"
    if wanted.label_space is not None:
        space, ids = read_label_space(wanted.label_space, wanted.space, stored=pack.space)
        remark, what = _left_out(pack, ids, wanted.label_space), f"label space file '{wanted.label_space}'"
    if not same_names(space, wanted.space):
        raise DataError(_other_classes(what, space, wanted))
    return ModelSource(_with_images(pack), wanted.space, ids_by_name(space, ids, wanted.space), remark)


def _left_out(pack: SourcePack, ids: IdTable | None, file: Path) -> str:
    names = [] if ids is None else [name for i, name in enumerate(pack.space.classes) if i not in ids.known]
    return f"'{file}' maps no {some_names(names)} of {pack.name}: these pixels are ignored" if names else ""


def _other_classes(what: str, space: LabelSpace, wanted: Wanted) -> str:
    cure = (
        "give --label_space FILE that leads from one to the other, or another --source"
        if wanted.label_space is None
        else "write the model's classes into the file, or leave 'classes' out of it"
    )
    return (
        f"{what} has other classes than the model, which has the {len(wanted.space)} of '{wanted.space.name}': it "
        f"{space_difference(space, wanted.space)}; {cure}"
    )


def count_labels(
    source: LabelledSource, say: Callable[[str], None], progress: Count, *, on_bad: OnBad = "stop"
) -> tuple[LabelledSource, ClassStatistics]:
    """Audit a data set; return it without the pairs that are left out, and the class counts.

    Raises:
        DataError: the audit stops on the labels.
    """
    checked = check_labels(source.pairs, source.space, on_bad=on_bad, count=progress)
    for sentence in checked.audit.remarks:
        say(sentence)
    return replace(source, pairs=checked.pairs), checked.statistics


def pack_of(
    source: LabelledSource,
    statistics: ClassStatistics,
    out: Path,
    *,
    images: int,
    held_out: float,
    seed: int,
    hold: Sequence[str] | None = None,
    long_side: int = 1024,
    quality: int = QUALITY,
    attribution: str = "",
    command: str = "",
    progress: Count | None = None,
) -> SourcePack:
    """Choose the images with the rarest classes, by the weights of Rare Class Sampling, and write them as a pack.

    The arguments are those of `choose_images` and `write_source_pack`; `hold` names the images to hold out.

    Raises:
        DataError: see `choose_images`, `LabelledSource.rows` and `write_source_pack`.
    """
    classes, probabilities = class_probabilities(statistics.counts.sum(axis=0), _TEMPERATURE)
    weights = np.zeros(len(source.space))
    weights[classes] = probabilities
    shown = shown_classes(statistics.counts, statistics.label_sizes)
    rows = None if hold is None else source.rows(hold)
    choice = choose_images(shown, weights, images, held_out=held_out, seed=seed, hold=rows)
    return write_source_pack(
        source,
        statistics,
        choice,
        out,
        long_side=long_side,
        quality=quality,
        attribution=attribution,
        command=command,
        progress=progress,
    )


def _with_images(pack: SourcePack) -> SourcePack:
    if not len(pack.train_pairs()):
        raise DataError(f"source pack '{pack.path}' has no image to train on; make it again")
    return pack
