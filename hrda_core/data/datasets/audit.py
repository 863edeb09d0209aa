"""The label audit finds what is wrong with a labelled data set before the first training step, not hours later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrda_core.data.datasets.class_statistics import ClassStatistics
from hrda_core.data.datasets.labelled import ImageLabelPairs
from hrda_core.errors import LabelSpaceError
from hrda_core.labels import LabelSpace

__all__ = ["LabelAudit", "audit"]

_NAMED = 3  # files and ids that a sentence names; the rest is a number


@dataclass(frozen=True, eq=False)
class LabelAudit:
    """The result of an audit.

    Attributes:
        name: name of the data set.
        classes: class names.
        pixels: int64 (C,), pixels of each class in all files.
        files: int64 (C,), number of files that show the class.
        ignored: number of pixels without a class.
        images: number of files.
        stop: sentences that say why training must not start.
        warnings: sentences that the user should read.
    """

    name: str
    classes: tuple[str, ...]
    pixels: npt.NDArray[np.int64]
    files: npt.NDArray[np.int64]
    ignored: int
    images: int
    stop: tuple[str, ...]
    warnings: tuple[str, ...]

    def table(self) -> str:
        """Return a table of the classes, with share of all pixels and number of files, and the sentences below it."""
        total = max(int(self.pixels.sum()) + self.ignored, 1)
        width = max(len(name) for name in (*self.classes, "ignored"))
        lines = [f"{self.name}: {self.images} labelled images", f"  id  {'class':<{width}}  pixels %   images"]
        for number, name in enumerate(self.classes):
            share = 100 * int(self.pixels[number]) / total
            lines.append(f"  {number:>2}  {name:<{width}}  {share:8.3f}  {int(self.files[number]):7}")
        lines.append(f"      {'ignored':<{width}}  {100 * self.ignored / total:8.3f}")
        lines += [f"  STOP: {sentence}" for sentence in self.stop]
        lines += [f"  warning: {sentence}" for sentence in self.warnings]
        return "\n".join(lines)


def audit(pairs: ImageLabelPairs, statistics: ClassStatistics, space: LabelSpace) -> LabelAudit:
    """Judge the statistics of a data set.

    Args:
        pairs: the data set.
        statistics: `class_statistics(pairs, len(space))`.
        space: the classes that the network learns.

    Raises:
        LabelSpaceError: the statistics are of another number of files or classes.
    """
    if statistics.counts.shape != (len(pairs), len(space)):
        raise LabelSpaceError(
            f"the statistics count {statistics.counts.shape} files and classes, but '{pairs.name}' has {len(pairs)} "
            f"files and label space '{space.name}' {len(space)} classes; count again with that space"
        )
    pixels = statistics.counts.sum(axis=0)
    return LabelAudit(
        name=pairs.name,
        classes=space.classes,
        pixels=pixels,
        files=np.count_nonzero(statistics.counts, axis=0).astype(np.int64),
        ignored=int(statistics.ignored.sum()),
        images=len(pairs),
        stop=(*_bad_files(pairs, statistics, space), *_no_use(pairs, pixels, space)),
        warnings=tuple(_oddities(pairs, statistics, pixels, space)),
    )


def _bad_files(pairs: ImageLabelPairs, statistics: ClassStatistics, space: LabelSpace) -> list[str]:
    found = []
    if len(statistics.broken):
        reasons = " | ".join(statistics.reasons[:_NAMED])
        found.append(f"images or labels of {len(statistics.broken)} of {len(pairs)} pairs cannot be read: {reasons}")
    outside = np.flatnonzero(statistics.outside.any(axis=1))
    if len(outside):
        found.append(
            f"{len(outside)} label files hold ids {_ids(statistics.outside)} that are neither classes of "
            f"'{space.name}' (0..{len(space) - 1}) nor 255: {_paths(pairs.labels, outside)}; give a label space file "
            f"that maps them"
        )
    readable = (statistics.label_sizes[:, 0] >= 0) & (statistics.image_sizes[:, 0] >= 0)
    differ = np.flatnonzero(readable & (statistics.label_sizes != statistics.image_sizes).any(axis=1))
    if len(differ):
        row = differ[0]
        found.append(
            f"{len(differ)} label files differ in size from their image: {_paths(pairs.labels, differ)}; the first is "
            f"{_size(statistics.label_sizes[row])}, image '{pairs.images[row]}' {_size(statistics.image_sizes[row])}; "
            f"leave them out by a list of names, or give labels of the image's size"
        )
    return found


def _no_use(pairs: ImageLabelPairs, pixels: npt.NDArray[np.int64], space: LabelSpace) -> list[str]:
    if not len(pairs):
        return [f"'{pairs.name}' holds no labelled image; check folder, split and list of names"]
    present = np.flatnonzero(pixels)
    if not len(present):
        return [f"no pixel of '{pairs.name}' has a class, all are ignored; check layout and label space"]
    if len(present) == 1:
        return [
            f"'{space.classes[present[0]]}' is the only class in '{pairs.name}': there is nothing to tell apart; "
            f"check layout and label space"
        ]
    return []


def _oddities(
    pairs: ImageLabelPairs, statistics: ClassStatistics, pixels: npt.NDArray[np.int64], space: LabelSpace
) -> list[str]:
    found = []
    absent = [name for name, count in zip(space.classes, pixels, strict=True) if not count]
    if absent and len(absent) < len(space) - 1:
        found.append(f"no pixel of: {', '.join(absent)}; the network cannot learn these from here")
    unknown = np.flatnonzero(statistics.unknown.any(axis=1))
    if len(unknown):
        scheme = pairs.ids.name if pairs.ids else space.name
        found.append(
            f"{len(unknown)} label files hold ids {_ids(statistics.unknown)} that '{scheme}' does not know; these "
            f"pixels are ignored: {_paths(pairs.labels, unknown)}"
        )
    useless = np.flatnonzero((statistics.counts.sum(axis=1) == 0) & (statistics.ignored > 0))
    if len(useless) and pixels.any():
        found.append(f"{len(useless)} label files are ignored in every pixel: {_paths(pairs.labels, useless)}")
    return found


def _ids(rows: npt.NDArray[np.bool_]) -> str:
    ids = np.flatnonzero(rows.any(axis=0))
    return ", ".join(str(number) for number in ids[:10]) + (", ..." if len(ids) > 10 else "")


def _paths(paths: Sequence[Path], rows: npt.NDArray[np.int64]) -> str:
    named = ", ".join(f"'{paths[row]}'" for row in rows[:_NAMED])
    return named + (f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else "")


def _size(size: npt.NDArray[np.int64]) -> str:
    return f"{size[1]}x{size[0]}"
