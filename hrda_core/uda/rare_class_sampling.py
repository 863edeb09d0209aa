"""Rare Class Sampling draws images with rare classes more often (paper section 3.3, eq. for P(c); spec section 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hrda_core.errors import DataError

__all__ = ["RareClassSampler", "class_probabilities"]


def class_probabilities(
    pixel_counts: npt.NDArray[np.int64], temperature: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Compute P(c) = softmax((1 - f_c) / T) over the classes that occur; f_c is the class's share of pixels.

    Args:
        pixel_counts: int64 (C,), pixels of each class in the whole data set.
        temperature: T; small values favour rare classes strongly (0.01 in the paper).

    Returns:
        class ids in ascending frequency, and their probabilities, float32.

    Raises:
        DataError: there is no labelled pixel at all.
    """
    total = int(pixel_counts.sum())
    if total == 0:
        raise DataError("Rare Class Sampling found no labelled pixel in the source data; check the labels folder")
    present = np.flatnonzero(pixel_counts)
    classes = present[np.argsort(pixel_counts[present], kind="stable")]
    frequency = (pixel_counts[classes] / total).astype(np.float32)
    score = (1 - frequency) / np.float32(temperature)
    weight = np.exp(score - score.max())
    return classes, (weight / weight.sum()).astype(np.float32)


@dataclass(frozen=True)
class RareClassSampler:
    """Draws a class, then an image that shows enough of it. Build it with `from_counts`.

    Attributes:
        classes: class ids in ascending frequency.
        probabilities: probability of each of `classes`.
        images: for each of `classes`, indices of the images with enough of its pixels.
    """

    classes: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32]
    images: tuple[npt.NDArray[np.int64], ...]

    @classmethod
    def from_counts(cls, counts: npt.NDArray[np.int64], temperature: float, min_pixels: int) -> RareClassSampler:
        """Build from per-image class counts, int64 (N, C); an image shows a class with MORE than `min_pixels` pixels.

        Classes that no image shows enough of are left out, and the probabilities of the others are rescaled.

        Raises:
            DataError: no image shows enough of any class.
        """
        classes, probabilities = class_probabilities(counts.sum(axis=0), temperature)
        images = [np.flatnonzero(counts[:, label] > min_pixels) for label in classes]
        usable = np.array([len(indices) > 0 for indices in images])
        if not usable.any():
            raise DataError(f"no source image shows more than {min_pixels} pixels of any class; lower rcs_min_pixels")
        kept = probabilities[usable]
        return cls(classes[usable], kept / kept.sum(), tuple(indices for indices in images if len(indices)))

    def draw(self, rng: np.random.RandomState) -> tuple[int, int]:
        """Draw a class id and the index of an image that shows it."""
        position = int(rng.choice(len(self.classes), p=_exact_sum(self.probabilities)))
        return int(self.classes[position]), int(rng.choice(self.images[position]))


def _exact_sum(probabilities: Sequence[float] | npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    exact: npt.NDArray[np.float64] = np.asarray(probabilities, np.float64)
    return np.asarray(exact / exact.sum(), np.float64)
