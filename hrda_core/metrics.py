"""Segmentation scores from one confusion matrix over a whole data set. numpy only, so that a robot can score too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hrda_core.errors import DataError
from hrda_core.labels import IGNORE_LABEL

__all__ = ["Confusion", "Scores"]


@dataclass(frozen=True)
class Scores:
    """Intersection over union and pixel accuracy.

    Attributes:
        iou: float64 (C,), 0..1; NaN for a class that is neither labelled nor predicted.
        accuracy: float64 (C,), share of a class's labelled pixels that were found; NaN without such pixels.
        mean_iou: mean over the classes that are not NaN.
        pixel_accuracy: share of all labelled pixels that are right.
    """

    iou: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    mean_iou: float
    pixel_accuracy: float


class Confusion:
    """Counts of (label, prediction) pairs; add images one by one, then ask for the scores.

    Args:
        num_classes: ids 0..num_classes-1 count; a label of `IGNORE_LABEL` leaves the pixel out. A prediction
            outside the classes on a labelled pixel counts as wrong for the label's class.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._counts = np.zeros((num_classes, num_classes + 1), np.int64)

    def add(self, prediction: npt.NDArray[np.uint8], label: npt.NDArray[np.uint8]) -> None:
        """Count the pixels of one image, uint8 (H, W) each.

        Raises:
            DataError: the sizes differ, or a label id is outside the classes.
        """
        if prediction.shape != label.shape:
            raise DataError(f"prediction {prediction.shape} and labels {label.shape} must have the same size")
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
        """Scores of everything added so far."""
        counts = self._counts.astype(np.float64)
        hit = np.diagonal(counts)
        labelled, predicted = counts.sum(axis=1), counts[:, :-1].sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = hit / (labelled + predicted - hit)
            accuracy = hit / labelled
        total = labelled.sum()
        mean_iou = float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")
        return Scores(iou, accuracy, mean_iou, float(hit.sum() / total) if total else float("nan"))
