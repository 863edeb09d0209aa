"""Source packs: a compact, class-balanced excerpt of a labelled data set, small enough for a robot.

Adaptation needs labelled images beside the unlabelled ones, so that the network keeps what it knows. It does not need
all of them: a pack holds the images with the rarest classes, their class counts, and a held-out part for measuring.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hrda_core.data.datasets.class_statistics import ClassStatistics
from hrda_core.data.datasets.labelled import ImageLabelPairs
from hrda_core.data.datasets.source_spec import LabelledSource
from hrda_core.data.packs.format import (
    HELD_OUT,
    IMAGES,
    LABELS,
    MANIFEST,
    TRAIN,
    ClassTotals,
    PackImage,
    check_files,
    is_pack,
    read_manifest,
)
from hrda_core.data.packs.selection import Choice
from hrda_core.data.packs.writer import QUALITY, pack_writer
from hrda_core.errors import DataError, LabelSpaceError
from hrda_core.labels import LabelSpace

__all__ = ["SourcePack", "is_pack", "pack_space", "write_source_pack"]


@dataclass(frozen=True, eq=False)
class SourcePack:
    """A checked pack. Build it with `SourcePack.open`.

    Attributes:
        path: the folder.
        name: name of the data.
        kind: `"labelled"`, or `"pseudo"` where the labels are a model's own predictions.
        licence: licence of the data.
        space: classes of the labels.
        images: the entries of `pack.yaml` for each image.
        whole: totals of what the pack was taken from: the data set, or all predictions before the uncertain were left
            out.
        rcs_min_pixels: pixels from which an image shows a class, for Rare Class Sampling, fitting the images' size.
        scale: median factor by which images were shrunk, 1 = not at all.
        manifest: `pack.yaml` as read.
    """

    path: Path
    name: str
    kind: str
    licence: str
    space: LabelSpace
    images: tuple[PackImage, ...]
    whole: ClassTotals
    rcs_min_pixels: int
    scale: float
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> SourcePack:
        """Read the `pack.yaml` of a folder, and check that every file that it lists is there and unchanged.

        Raises:
            DataError: there is no pack, it has another format version, a key is missing, or a file is missing or
                changed.
        """
        manifest = read_manifest(path)
        try:
            space = LabelSpace.from_dict(manifest["label_space"])
            pack = cls(
                path=path,
                name=str(manifest["name"]),
                kind=str(manifest["kind"]),
                licence=str(manifest["licence"]),
                space=space,
                images=tuple(PackImage.from_dict(image, len(space)) for image in manifest["images"]),
                whole=ClassTotals.from_dict(manifest["whole"]),
                rcs_min_pixels=int(manifest["rcs_min_pixels"]),
                scale=float(manifest["scale"]),
                manifest=manifest,
            )
        except (KeyError, TypeError, ValueError, OverflowError, LabelSpaceError) as error:
            raise DataError(f"'{path / MANIFEST}' lacks or garbles a key ({error!r}); make the pack again") from error
        for image in pack.images:
            check_files(path, image)
        return pack

    def train_pairs(self) -> ImageLabelPairs:
        """Return the images to train on."""
        return self._pairs(TRAIN)

    def held_out_pairs(self) -> ImageLabelPairs:
        """Return the images to measure on, which are never trained on; there may be none."""
        return self._pairs(HELD_OUT)

    def describe(self) -> str:
        """Return one line for logs and model cards."""
        held_out = len(self._part(HELD_OUT))
        kind = "images with a model's own labels" if self.kind == "pseudo" else "labelled images"
        return f"{len(self.images)} {kind} of {self.name}, {held_out} held out ({self.bytes / 1e6:.1f} MB)"

    @property
    def bytes(self) -> int:
        """Size of all images and labels."""
        return sum(image.image_bytes + image.label_bytes for image in self.images)

    def _part(self, part: str) -> tuple[PackImage, ...]:
        return tuple(image for image in self.images if image.part == part)

    def _pairs(self, part: str) -> ImageLabelPairs:
        names = [image.name for image in self._part(part)]
        return ImageLabelPairs(
            f"{self.name} ({part.replace('_', ' ')})",
            tuple(self.path / IMAGES / f"{name}.jpg" for name in names),
            tuple(self.path / LABELS / f"{name}.png" for name in names),
        )

    def table(self) -> str:
        """Return a table of each class's share of pixels and number of images, in the whole, the pack and held out."""
        return _table(self)

    def totals(self, part: str) -> ClassTotals:
        """Return the sums over the images of a part, `"train"` or `"held_out"`."""
        images = self._part(part)
        pixels = np.array([image.pixels for image in images], np.int64).reshape(-1, len(self.space))
        return ClassTotals.of(pixels, np.array([image.ignored for image in images], np.int64))


def pack_space(path: Path) -> LabelSpace | None:
    """Return the classes of a pack, its files unchecked; None if it is damaged: `SourcePack.open` says how."""
    try:
        return LabelSpace.from_dict(read_manifest(path)["label_space"])
    except (DataError, KeyError, LabelSpaceError):
        return None


def write_source_pack(
    source: LabelledSource,
    statistics: ClassStatistics,
    choice: Choice,
    out: Path,
    *,
    long_side: int = 1024,
    quality: int = QUALITY,
    attribution: str = "",
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> SourcePack:
    """Write the chosen images of a data set as a pack.

    A pack in the same place is replaced when the new one is whole.

    Args:
        source: the data set.
        statistics: statistics of all its images.
        choice: rows of the images to take; see `hrda_core.data.packs.selection.choose_images`.
        out: folder of the pack: absent, empty or a pack.
        long_side: larger images are shrunk to this, pixels; 0 = never.
        quality: quality of the JPEGs, 1 to 100.
        attribution: whom the licence says to name; a note of the pack.
        command: the command line, for the record.
        progress: called with images written and images in all.

    Raises:
        DataError: an image or label file cannot be used, or `out` cannot be written; an older pack stays.
    """
    parts = dict.fromkeys(choice.train, TRAIN) | dict.fromkeys(choice.held_out, HELD_OUT)
    with pack_writer(out, source.space, long_side=long_side, quality=quality) as writer:
        images = []
        for done, row in enumerate(sorted(parts), 1):
            name = f"{row:06d}_{_plain(source.pairs.images[row].stem)}"
            images.append(writer.add(name, parts[row], *source.pairs.load(row)))
            if progress is not None:
                progress(done, len(parts))
        facts = {
            "kind": "labelled",
            "name": source.name,
            "licence": source.licence,
            "origin": {"source": source.origin, "images in the source": len(source.pairs)},
            "whole": ClassTotals.of(statistics.counts, statistics.ignored).to_dict(),
            "notes": [f"Attribution: {attribution}"] if attribution else [],
            "command": command,
        }
        writer.finish(images, facts)
    return SourcePack.open(out)


def _plain(stem: str) -> str:
    """A file name that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", stem)[:80]


def _table(pack: SourcePack) -> str:
    train, held_out = pack.totals(TRAIN), pack.totals(HELD_OUT)
    both = train + held_out
    before, after = ("predicted", "sure") if pack.kind == "pseudo" else ("whole", "pack")
    width = max(len(name) for name in (*pack.space.classes, "ignored"))
    lines = [
        pack.describe(),
        f"      {'':<{width}}  {'pixels %':^19}  {'images with it':^29}".rstrip(),
        f"  id  {'class':<{width}}  {before:>9} {after:>9}  {before:>9} {'train':>9} {'held out':>9}",
    ]
    for number, name in enumerate(pack.space.classes):
        shares = " ".join(f"{100 * totals.shares()[number]:9.3f}" for totals in (pack.whole, both))
        images = " ".join(f"{int(totals.showing[number]):9}" for totals in (pack.whole, train, held_out))
        lines.append(f"  {number:>2}  {name:<{width}}  {shares}  {images}")
    ignored = " ".join(f"{100 * totals.ignored_share:9.3f}" for totals in (pack.whole, both))
    images = " ".join(f"{totals.images:9}" for totals in (pack.whole, train, held_out))
    lines += [f"      {'ignored':<{width}}  {ignored}", f"      {'all':<{width}}  {'':19}  {images}"]
    absent = [name for name, pixels in zip(pack.space.classes, both.pixels, strict=True) if not pixels]
    if absent:
        lines.append(f"  no pixel of: {', '.join(absent)}; a network cannot learn these from the pack")
    return "\n".join([*lines, *(f"  note: {note}" for note in pack.manifest.get("notes") or ())])
