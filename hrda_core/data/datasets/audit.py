"""The label audit finds what is wrong with a labelled data set before the first training step, not hours later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hrda_core.data.datasets.class_statistics import ClassStatistics
from hrda_core.data.datasets.labelled import ImageLabelPairs
from hrda_core.errors import LabelSpaceError
from hrda_core.labels import LabelSpace

__all__ = ["BadPair", "ClassDraws", "LabelAudit", "audit", "bad_pairs"]

_NAMED = 3  # files and ids that a sentence names; the rest is a number
_FEW = 20  # images that a class is drawn from: fewer deserve a warning


class BadPair(NamedTuple):
    """A pair that cannot be used.

    Attributes:
        row: its place in the data set.
        image: the image.
        reason: what is wrong, in words.
        unequal: whether the labels are of another size than the image.
    """

    row: int
    image: Path
    reason: str
    unequal: bool


@dataclass(frozen=True, eq=False)
class ClassDraws:
    """How often Rare Class Sampling draws each class, and from how many images.

    Attributes:
        images: int64 (C,), number of different images with more than `min_pixels` pixels of the class.
        shares: float64 (C,), share of the draws, 0..1.
        min_pixels: an image is drawn for a class with more than this many of its pixels.
    """

    images: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float64]
    min_pixels: int

    def warnings(self, audit: LabelAudit) -> list[str]:
        """Return sentences on classes of the audit that are never drawn, or from very few images."""
        found = []
        never = [
            name
            for name, pixels, images in zip(audit.classes, audit.pixels, self.images, strict=True)
            if pixels and not images
        ]
        if never:
            found.append(
                f"never drawn for, because no image shows more than {self.min_pixels} pixels of them: "
                f"{', '.join(never)}; lower rcs_min_pixels in the recipe"
            )
        few = [
            f"{audit.classes[number]} ({self.images[number]}, {100 * self.shares[number]:.0f} % of the draws)"
            for number in np.flatnonzero((self.images > 0) & (self.images < _FEW))
        ]
        if few:
            found.append(
                f"drawn from fewer than {_FEW} images: {', '.join(few)}; the network may learn these by heart: give "
                f"more images of them, or lower rcs_min_pixels or raise rcs_temperature in the recipe"
            )
        return found


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
        stop: sentences that say why the labels cannot be used.
        warnings: sentences that the user should read.
        bad: the pairs that cannot be used, in the order of the data set.
        left_out: sentences on pairs that were left out before the audit.
        draws: how Rare Class Sampling draws the classes; None = it does not.
    """

    name: str
    classes: tuple[str, ...]
    pixels: npt.NDArray[np.int64]
    files: npt.NDArray[np.int64]
    ignored: int
    images: int
    stop: tuple[str, ...]
    warnings: tuple[str, ...]
    bad: tuple[BadPair, ...] = ()
    left_out: tuple[str, ...] = ()
    draws: ClassDraws | None = None

    def with_draws(self, draws: ClassDraws) -> LabelAudit:
        """Return the audit with a table of draws and the warnings about them."""
        return replace(self, draws=draws, warnings=(*self.warnings, *draws.warnings(self)))

    def table(self) -> str:
        """Return a table of the classes, with share of all pixels and number of files, and the sentences below it."""
        total = max(int(self.pixels.sum()) + self.ignored, 1)
        width = max(len(name) for name in (*self.classes, "ignored"))
        more = "" if self.draws is None else "  drawn from   draws %"
        lines = [f"{self.name}: {self.images} labelled images", f"  id  {'class':<{width}}  pixels %   images{more}"]
        for number, name in enumerate(self.classes):
            share = 100 * int(self.pixels[number]) / total
            lines.append(f"  {number:>2}  {name:<{width}}  {share:8.3f}  {int(self.files[number]):7}")
            if self.draws is not None:
                lines[-1] += f"  {self.draws.images[number]:10}  {100 * self.draws.shares[number]:8.3f}"
        lines.append(f"      {'ignored':<{width}}  {100 * self.ignored / total:8.3f}")
        if self.draws is not None:
            lines.append(f"  drawn from: images with more than {self.draws.min_pixels} pixels of the class")
        lines += [f"  STOP: {sentence}" for sentence in self.stop]
        lines += [f"  {sentence}" for sentence in self.remarks]
        return "\n".join(lines)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences for the user on labels that can be used: what was left out, and the warnings."""
        return (*(f"left out: {sentence}" for sentence in self.left_out), *(f"warning: {w}" for w in self.warnings))


def audit(
    pairs: ImageLabelPairs,
    statistics: ClassStatistics,
    space: LabelSpace,
    *,
    scored: bool = False,
    left_out: Sequence[str] = (),
) -> LabelAudit:
    """Judge the statistics of a data set.

    Args:
        pairs: the data set.
        statistics: `class_statistics(pairs, len(space))`.
        space: the classes that the network learns.
        scored: the labels are only scored on. A single class is enough then, and absent classes are no fault.
        left_out: sentences on pairs that were left out before.

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
        stop=(*_bad_files(pairs, statistics, space), *_no_use(pairs, pixels, space, scored)),
        warnings=tuple(_oddities(pairs, statistics, pixels, space, scored)),
        bad=tuple(bad_pairs(pairs, statistics, space)),
        left_out=tuple(left_out),
    )


def bad_pairs(pairs: ImageLabelPairs, statistics: ClassStatistics, space: LabelSpace) -> list[BadPair]:
    """Return the pairs that cannot be used, each once, with the first reason that is found, in the order of `pairs`.

    The arguments are those of `audit`.
    """
    unreadable = dict(zip(statistics.broken.tolist(), statistics.reasons.tolist(), strict=True))
    reasons = {
        row: f"image of {_size(statistics.image_sizes[row])}, labels of {_size(statistics.label_sizes[row])} pixels"
        for row in _unequal(statistics).tolist()
    }
    for row in _outside(statistics).tolist():
        reasons[row] = f"ids {_ids(statistics.outside[row : row + 1])} are no classes of '{space.name}'"
    reasons |= unreadable
    sized = set(_unequal(statistics).tolist())
    return [BadPair(row, pairs.images[row], reasons[row], row in sized) for row in sorted(reasons)]


def _outside(statistics: ClassStatistics) -> npt.NDArray[np.int64]:
    return np.flatnonzero(statistics.outside.any(axis=1))


def _unequal(statistics: ClassStatistics) -> npt.NDArray[np.int64]:
    readable = (statistics.label_sizes[:, 0] >= 0) & (statistics.image_sizes[:, 0] >= 0)
    return np.flatnonzero(readable & (statistics.label_sizes != statistics.image_sizes).any(axis=1))


def _bad_files(pairs: ImageLabelPairs, statistics: ClassStatistics, space: LabelSpace) -> list[str]:
    found = []
    if len(statistics.broken):
        reasons = " | ".join(statistics.reasons[:_NAMED])
        found.append(f"images or labels of {len(statistics.broken)} of {len(pairs)} pairs cannot be read: {reasons}")
    outside = _outside(statistics)
    if len(outside):
        found.append(
            f"{len(outside)} label files hold ids {_ids(statistics.outside)} that are neither classes of "
            f"'{space.name}' (0..{len(space) - 1}) nor 255: {_paths(pairs.labels, outside)}; give a label space file "
            f"(label_space) that maps them"
        )
    differ = _unequal(statistics)
    if len(differ):
        row = differ[0]
        found.append(
            f"{len(differ)} label files differ in size from their image: {_paths(pairs.labels, differ)}; the first is "
            f"{_size(statistics.label_sizes[row])}, image '{pairs.images[row]}' {_size(statistics.image_sizes[row])}; "
            f"leave them out with exclude or on_bad: skip, or give labels of the image's size"
        )
    return found


def _no_use(pairs: ImageLabelPairs, pixels: npt.NDArray[np.int64], space: LabelSpace, scored: bool) -> list[str]:
    if not len(pairs):
        return [f"'{pairs.name}' holds no labelled image; check folder, split and list of names"]
    present = np.flatnonzero(pixels)
    if not len(present):
        return [f"no pixel of '{pairs.name}' has a class, all are ignored; check layout and label space"]
    if len(present) == 1 and not scored:
        return [
            f"'{space.classes[present[0]]}' is the only class in '{pairs.name}': there is nothing to tell apart; "
            f"check layout and label space"
        ]
    return []


def _oddities(
    pairs: ImageLabelPairs,
    statistics: ClassStatistics,
    pixels: npt.NDArray[np.int64],
    space: LabelSpace,
    scored: bool,
) -> list[str]:
    found = []
    absent = [name for name, count in zip(space.classes, pixels, strict=True) if not count]
    if absent and len(absent) < len(space) - 1 and not scored:
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
