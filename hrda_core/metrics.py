"""Segmentation scores of a whole data set: IoU from one confusion matrix, and the F score of class boundaries.

Counts of all images are added up before anything is divided. The module needs numpy alone, so that a robot can score
too; the boundary score also needs OpenCV, which is loaded when the score is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hrda_core.errors import DataError, RecipeError, require
from hrda_core.labels import IGNORE_LABEL, ClassGroups

__all__ = [
    "BOUNDARY_TOLERANCE",
    "Boundaries",
    "Confusion",
    "Evaluation",
    "LabelledImages",
    "Scores",
    "at_size",
    "score",
]

BOUNDARY_TOLERANCE = 0.0075
"""How far apart boundaries may lie and still agree, as a share of the image diagonal (Csurka et al., BMVC 2013)."""

UInt8Array = npt.NDArray[np.uint8]
Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Intersection over union and pixel accuracy.

    Attributes:
        iou: float64 (C,), 0..1; NaN for a class that is neither labelled nor predicted.
        accuracy: float64 (C,), share of a class's labelled pixels that were found; NaN without such pixels.
        mean_iou: mean over the classes that are not NaN.
        pixel_accuracy: share of all labelled pixels that are right.
    """

    iou: Float64Array
    accuracy: Float64Array
    mean_iou: float
    pixel_accuracy: float

    def of(self, classes: Sequence[int]) -> Scores:
        """Return the scores of some classes, arrays of shape (len(classes),).

        Pixels of the other classes still count where they are mistaken for these. The pixel accuracy stays that of all
        classes.
        """
        iou = self.iou[list(classes)]
        return Scores(iou, self.accuracy[list(classes)], _mean(iou), self.pixel_accuracy)


class Confusion:
    """Counts (label, prediction) pairs: add images one by one, then ask for the scores.

    Args:
        num_classes: ids 0..num_classes-1 count. A label of `IGNORE_LABEL` leaves its pixel out. A prediction
            outside the classes on a labelled pixel counts as wrong for the label's class.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._counts = np.zeros((num_classes, num_classes + 1), np.int64)

    def add(self, prediction: UInt8Array, label: UInt8Array) -> None:
        """Count the pixels of one image, uint8 (H, W) each.

        Raises:
            DataError: the sizes differ, or a label id is outside the classes.
        """
        _check_sizes(prediction, label)
        valid = label != IGNORE_LABEL
        labels = label[valid].astype(np.int64)
        if labels.size and int(labels.max()) >= self.num_classes:
            raise DataError(f"label id {int(labels.max())} found; expected 0..{self.num_classes - 1} or {IGNORE_LABEL}")
        predictions = np.minimum(prediction[valid], self.num_classes).astype(np.int64)
        columns = self.num_classes + 1
        counts = np.bincount(labels * columns + predictions, minlength=self.num_classes * columns)
        self._counts += counts.reshape(self.num_classes, columns)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """int64 (C, C + 1): rows are labels, columns predictions; the last column is "no class"."""
        return np.array(self._counts)

    def scores(self) -> Scores:
        """Compute the scores of everything added so far."""
        counts = self._counts.astype(np.float64)
        hit = np.diagonal(counts)
        labelled, predicted = counts.sum(axis=1), counts[:, :-1].sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = hit / (labelled + predicted - hit)
            accuracy = hit / labelled
        total = labelled.sum()
        return Scores(iou, accuracy, _mean(iou), float(hit.sum() / total) if total else float("nan"))


class Boundaries:
    """Counts boundary pixels and those that the other map confirms: add images, then ask for the scores.

    A pixel is on the boundary of its class if one of its four neighbours has another class. It is confirmed if the
    other map has a boundary of the same class within the tolerance. Neighbours without a label make no boundary.
    Boundary pixels within the tolerance of an unlabelled pixel are not judged, because what would confirm them may be
    hidden there.

    Args:
        num_classes: as for `Confusion`.
        tolerance: distance as a share of the image diagonal; it is at least one pixel.

    Raises:
        RecipeError: the tolerance is 0 or less.
        MissingPackageError: OpenCV is not installed.
    """

    def __init__(self, num_classes: int, tolerance: float = BOUNDARY_TOLERANCE) -> None:
        if not tolerance > 0:
            raise RecipeError(f"the boundary tolerance is a share of the image diagonal above 0, not {tolerance}")
        self.num_classes = num_classes
        self._cv2 = require("cv2", "runtime")
        self._tolerance = tolerance
        # Columns: predicted, predicted and confirmed, labelled, labelled and confirmed.
        self._counts = np.zeros((num_classes, 4), np.int64)

    def add(self, prediction: UInt8Array, label: UInt8Array) -> None:
        """Count the boundaries of one image, uint8 (H, W) each.

        Raises:
            DataError: the sizes differ.
        """
        _check_sizes(prediction, label)
        known = label != IGNORE_LABEL
        disc = _disc(max(1.0, self._tolerance * math.hypot(*label.shape)))
        judged = known if known.all() else self._grow(~known, disc) == 0
        maps = np.stack([np.where(_is_boundary(ids, known), ids, IGNORE_LABEL) for ids in (prediction, label)])
        for index in np.flatnonzero(np.bincount(maps.reshape(-1), minlength=256)[: self.num_classes]):
            # What confirms a pixel lies in the box around both boundaries; most boxes are small.
            left, top, wide, high = self._cv2.boundingRect(np.any(maps == index, axis=0).astype(np.uint8))
            box = slice(top, top + high), slice(left, left + wide)
            ours, theirs = (ids[box] == index for ids in maps)
            near_ours, near_theirs = (self._grow(boundary, disc) != 0 for boundary in (ours, theirs))
            ours, theirs = ours & judged[box], theirs & judged[box]
            pixels = (ours, ours & near_theirs, theirs, theirs & near_ours)
            self._counts[index] += [np.count_nonzero(place) for place in pixels]

    def scores(self) -> Float64Array:
        """Return F = 2PR / (P + R) of each class, float64 (C,), 0..1; NaN where no boundary of the class was judged."""
        predicted, confirmed, labelled, found = self._counts.astype(np.float64).T
        with np.errstate(divide="ignore", invalid="ignore"):
            # 2PR / (P + R) without its 0 / 0 where nothing is confirmed.
            f_score = 2 * confirmed * found / (confirmed * labelled + found * predicted)
        return np.where(predicted + labelled == 0, np.nan, np.nan_to_num(f_score))

    def _grow(self, place: npt.NDArray[np.bool_], disc: UInt8Array) -> UInt8Array:
        """Non-zero within the disc of a true pixel."""
        grown: UInt8Array = self._cv2.dilate(place.astype(np.uint8), disc)
        return grown


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model on one data set; `None` stands for a class that is neither labelled nor predicted.

    Attributes:
        groups: name of the groups of classes that were scored.
        images: number of images.
        mean_iou, pixel_accuracy: 0..1; see `Scores`. NaN without any labelled pixel.
        boundary_f: mean boundary F over the classes that have one, 0..1; NaN if it was not asked for.
        iou, class_boundary_f: scores by the name of each scored group.
        classes: names of all groups, the rows of `confusion`.
        confusion: pixel counts; rows are labels, columns are predictions, the last column is "no class".
    """

    groups: str
    images: int
    mean_iou: float
    pixel_accuracy: float
    boundary_f: float
    iou: dict[str, float | None]
    class_boundary_f: dict[str, float | None]
    classes: list[str]
    confusion: list[list[int]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with `None` in place of NaN, which JSON lacks."""
        return {
            key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in asdict(self).items()
        }


class LabelledImages(Protocol):
    """The images to score: `hrda_core.data.datasets.labelled.ImageLabelPairs`, or anything with the same methods."""

    def __len__(self) -> int:
        """Number of images."""
        ...

    def load(self, index: int, /) -> tuple[UInt8Array, UInt8Array]:
        """Return the RGB image, uint8 (H, W, 3), and its class ids, uint8 (H, W)."""
        ...


def score(
    predict: Callable[[UInt8Array], UInt8Array],
    pairs: LabelledImages,
    groups: ClassGroups,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    boundary: bool = True,
) -> Evaluation:
    """Predict every image and compare with its labels, both mapped through `groups`.

    Args:
        predict: takes an RGB image uint8 (H, W, 3) and returns class ids uint8, which are resized to the labels'
            size by the nearest pixel.
        progress: called after each image with the number of images done and the number of all.
        boundary: also compute the boundary F, which takes about 10 ms for 480 x 360 pixels, 0.2 s for 2048 x 1024.

    Raises:
        DataError: an image or its labels cannot be used.
    """
    table, confusion = groups.table(), Confusion(len(groups.groups))
    boundaries = Boundaries(len(groups.groups)) if boundary else None
    for index in range(len(pairs)):
        image, labels = pairs.load(index)
        prediction, labels = table[at_size(predict(image), labels.shape)], table[labels]
        confusion.add(prediction, labels)
        if boundaries is not None:
            boundaries.add(prediction, labels)
        progress(index + 1, len(pairs))
    scores = confusion.scores().of(groups.scored)
    class_f = np.full_like(scores.iou, np.nan) if boundaries is None else boundaries.scores()[list(groups.scored)]
    return Evaluation(
        groups=groups.name,
        images=len(pairs),
        mean_iou=scores.mean_iou,
        pixel_accuracy=scores.pixel_accuracy,
        boundary_f=_mean(class_f),
        iou=_by_name(groups, scores.iou),
        class_boundary_f=_by_name(groups, class_f),
        classes=list(groups.names),
        confusion=confusion.counts.tolist(),
    )


def _mean(values: Float64Array) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _by_name(groups: ClassGroups, values: Float64Array) -> dict[str, float | None]:
    names = [groups.names[group] for group in groups.scored]
    return {name: None if math.isnan(value) else float(value) for name, value in zip(names, values, strict=True)}


def _check_sizes(prediction: UInt8Array, label: UInt8Array) -> None:
    if prediction.shape != label.shape:
        raise DataError(f"prediction {prediction.shape} and labels {label.shape} must have the same size")


def at_size(ids: UInt8Array, size: tuple[int, ...]) -> UInt8Array:
    """Resize to the nearest pixel with centres aligned: uint8 (h, w) -> (H, W)."""
    if ids.shape == size:
        return ids
    rows, columns = ((2 * np.arange(to) + 1) * old // (2 * to) for to, old in zip(size, ids.shape, strict=True))
    return np.asarray(ids[rows[:, None], columns], np.uint8)


def _is_boundary(ids: UInt8Array, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether one of a pixel's four neighbours has another id, bool (H, W); pairs with an unlabelled pixel aside."""
    boundary = np.zeros(ids.shape, np.bool_)
    down = (ids[1:] != ids[:-1]) & known[1:] & known[:-1]
    right = (ids[:, 1:] != ids[:, :-1]) & known[:, 1:] & known[:, :-1]
    boundary[1:] |= down
    boundary[:-1] |= down
    boundary[:, 1:] |= right
    boundary[:, :-1] |= right
    return boundary


def _disc(radius: float) -> UInt8Array:
    """All offsets of length up to `radius`, uint8 (2r + 1, 2r + 1)."""
    offsets = np.arange(-int(radius), int(radius) + 1)
    return np.asarray(offsets[:, None] ** 2 + offsets**2 <= radius**2, np.uint8)
