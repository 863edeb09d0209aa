"""Counts the pixels of each class in every label file (paper section 3.3, f_c of Rare Class Sampling; spec section 9).

One pass over the label files at native size also collects what the label audit needs. The result is kept in the cache
folder (`hrda_core.whole_files.cache_folder`), never beside the data. It belongs to names, sizes and times of all files
and to the id table, so changed data is counted again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.data.datasets.labelled import ImageLabelPairs
from hrda_core.data.image_files import BoolArray, UInt8Array, image_size
from hrda_core.errors import DataError, HrdaError
from hrda_core.labels import IGNORE_LABEL
from hrda_core.plain_files import open_file
from hrda_core.whole_files import cache_folder, whole_file

__all__ = ["ClassStatistics", "class_statistics", "statistics_key"]

_FORMAT = 1
_WORKERS = 2  # threads: decoding, which takes most of the time, runs outside the interpreter's lock
_STRIP = 1 << 23  # pixels counted at once: OpenCV counts in float32, exact up to 2 ** 24

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClassStatistics:
    """Statistics of N files.

    Attributes:
        counts: int64 (N, C), pixels of each class.
        ignored: int64 (N,), pixels without a class.
        outside: bool (N, 256), ids in the file that become neither a class nor ignored.
        unknown: bool (N, 256), ids that the id table does not know, and ignores.
        label_sizes, image_sizes: int64 (N, 2), height and width; -1 where the file cannot be read. Image sizes come
            from the file's header.
        broken: int64 (P,), rows of files that cannot be read.
        reasons: str (P,), why they cannot be read.
        warning: a sentence for the user if the result could not be kept, else empty.
    """

    counts: Int64Array
    ignored: Int64Array
    outside: BoolArray
    unknown: BoolArray
    label_sizes: Int64Array
    image_sizes: Int64Array
    broken: Int64Array
    reasons: npt.NDArray[np.str_]
    warning: str = ""

    def __len__(self) -> int:
        return len(self.counts)

    def take(self, rows: Sequence[int]) -> ClassStatistics:
        """Return the statistics of some files, in the order of `rows`."""
        place = {int(row): number for number, row in enumerate(self.broken)}
        broken = [(number, place[row]) for number, row in enumerate(rows) if row in place]
        kept = {name: getattr(self, name)[list(rows)] for name in _ARRAYS if name not in ("broken", "reasons")}
        return ClassStatistics(
            **kept,
            broken=np.array([number for number, _ in broken], np.int64),
            reasons=np.array([self.reasons[old] for _, old in broken], np.str_),
            warning=self.warning,
        )


@dataclass(frozen=True)
class _FileFacts:
    histogram: Int64Array
    label_size: tuple[int, int]
    image_size: tuple[int, int]
    problem: str


_ARRAYS = tuple(entry.name for entry in fields(ClassStatistics) if entry.name != "warning")


def class_statistics(
    pairs: ImageLabelPairs,
    num_classes: int,
    *,
    progress: Callable[[int, int], None] | None = None,
    cache: Path | None = None,
) -> ClassStatistics:
    """Count classes, or take from the cache what was counted before.

    Args:
        pairs: the data set.
        num_classes: C.
        progress: called with files done and files in all.
        cache: folder of kept results; None = `cache_folder()`.

    Returns:
        statistics of all files, bad files included: `hrda_core.data.datasets.audit` says which of them matter.
    """
    folder = cache_folder() if cache is None else cache
    path = folder / "class_statistics" / f"{statistics_key(pairs, num_classes)}.npz"
    kept = _read_cache(path, len(pairs), num_classes)
    if kept is not None:
        return kept
    with ThreadPoolExecutor(_WORKERS) as pool:
        facts = []
        for done, fact in enumerate(pool.map(partial(_look_at, pairs), range(len(pairs))), 1):
            facts.append(fact)
            if progress is not None:
                progress(done, len(pairs))
    statistics = _gather(facts, pairs, num_classes)
    return replace(statistics, warning=_write_cache(path, statistics))


def _look_at(pairs: ImageLabelPairs, row: int) -> _FileFacts:
    image, label = pairs.images[row], pairs.labels[row]
    problems, histogram, label_shape, image_shape = [], np.zeros(256, np.int64), (-1, -1), (-1, -1)
    try:
        if not label.is_file():
            raise DataError(f"image '{image}' has no label file '{label}'")
        ids = pairs.reader(label, pairs.max_megapixels)
        histogram, label_shape = _histogram(ids), (ids.shape[0], ids.shape[1])
    except (HrdaError, OSError) as error:
        problems.append(str(error))
    try:
        image_shape = image_size(image)
    except (HrdaError, OSError) as error:
        problems.append(str(error))
    return _FileFacts(histogram, label_shape, image_shape, "; ".join(problems))


def _histogram(ids: UInt8Array) -> Int64Array:
    flat = ids.reshape(-1, 1)
    strips = (flat[start : start + _STRIP] for start in range(0, len(flat), _STRIP))
    counts = [cv2.calcHist([strip], [0], None, [256], [0, 256]).reshape(-1).astype(np.int64) for strip in strips]
    return np.asarray(np.sum(counts, axis=0) if counts else np.zeros(256), np.int64)


def _gather(facts: Sequence[_FileFacts], pairs: ImageLabelPairs, num_classes: int) -> ClassStatistics:
    native = np.array([fact.histogram for fact in facts], np.int64).reshape(-1, 256)
    table = np.arange(256, dtype=np.uint8) if pairs.ids is None else pairs.ids.table
    counts = np.zeros((len(facts), 256), np.int64)
    np.add.at(counts.T, table, native.T)
    known = np.ones(256, np.bool_)
    if pairs.ids is not None:
        known[:] = False
        known[list(pairs.ids.known)] = True
    return ClassStatistics(
        counts=counts[:, :num_classes],
        ignored=counts[:, IGNORE_LABEL],
        outside=(native > 0) & (table >= num_classes) & (table != IGNORE_LABEL),
        unknown=(native > 0) & ~known,
        label_sizes=np.array([fact.label_size for fact in facts], np.int64).reshape(-1, 2),
        image_sizes=np.array([fact.image_size for fact in facts], np.int64).reshape(-1, 2),
        broken=np.array([row for row, fact in enumerate(facts) if fact.problem], np.int64),
        reasons=np.array([fact.problem for fact in facts if fact.problem], np.str_),
    )


def statistics_key(pairs: ImageLabelPairs, num_classes: int) -> str:
    """Return a key of a data set as it is now: names, sizes and times of its files, and how its ids are read."""
    reader = f"{pairs.reader.__module__}.{getattr(pairs.reader, '__name__', repr(pairs.reader))}"
    digest = hashlib.sha256(f"{_FORMAT} {num_classes} {reader} {pairs.max_megapixels}".encode())
    if pairs.ids is not None:
        digest.update(pairs.ids.table.tobytes() + repr(sorted(pairs.ids.known)).encode())
    for path in (*pairs.images, *pairs.labels):
        try:
            status = path.stat()
            state = (status.st_size, status.st_mtime_ns)
        except OSError:
            state = (-1, -1)
        digest.update(f"\n{os.path.abspath(path)} {state}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _read_cache(path: Path, files: int, num_classes: int) -> ClassStatistics | None:
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as stored:
            statistics = ClassStatistics(**{name: stored[name] for name in _ARRAYS})
    except Exception:  # absent, cut off or damaged in any way: count again and replace it
        return None
    return statistics if statistics.counts.shape == (files, num_classes) else None


def _write_cache(path: Path, statistics: ClassStatistics) -> str:
    """Write the file whole or not at all; returns a sentence if that does not work, else an empty text."""
    try:
        with whole_file(path, advice="set HRDA_CACHE to a folder that can be written") as part, part.open("wb") as file:
            np.savez_compressed(file, **{name: getattr(statistics, name) for name in _ARRAYS})
    except DataError as error:
        return f"the class statistics are not kept and will be counted again next time: {error}"
    return ""
