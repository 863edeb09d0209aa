"""Measures of masks without labels: IoU as expected, confidence, consistency between views, steadiness in time.

The verdict rests on the first: on labelled source images it is counted what is there where a model gives a class with a
certain confidence, and these shares, of the model itself, are applied to what it says of the drive: they give the
confusion matrix that labels would be expected to give, and its IoU (compare average thresholded confidence, arXiv
2201.04234, which has one threshold for all classes and gives accuracy alone). A model that is sure and wrong, or takes
one class for another, is so on source images too, and earns little; one that forgets a class has no pixel right of all
that are expected to be of it.

The others are evidence that a spoilt model can have. A model that always answers "road" is perfectly confident,
consistent and steady. The mutual
information of two views of a frame is not fooled by that: it says how much the mask of the mirrored, or of the smaller,
frame tells about the mask of the frame itself (the objective of invariant information clustering, arXiv 1807.06653). It
is high where masks agree AND tell many classes apart; a constant mask tells nothing, and neither does noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.data.image_files import UInt8Array
from hrda_core.inference import Prediction
from hrda_core.labels import ClassGroups
from hrda_core.resizing import resize_image, resize_map

__all__ = [
    "CONFIDENCE_BINS",
    "Candidate",
    "FrameMeasures",
    "Predict",
    "calibrated",
    "divergence",
    "effective_classes",
    "expected_overlaps",
    "flicker",
    "joint_classes",
    "measure_frame",
    "mutual_information",
    "seen_below",
    "sureness",
    "without_confidence",
]

Predict = Callable[[UInt8Array], Prediction]
"""RGB uint8 (H, W, 3) -> class ids and confidence, uint8 (H, W) each."""

FloatArray = npt.NDArray[np.float64]

CONFIDENCE_BINS = 8
"""Equal parts of the confidence 0..255 in which it is counted how often a model is right."""

_PRIOR_OF_BIN, _PRIOR_OF_CLASS = 50, 200
"""Pixels by which all pixels weigh in a bin, and what its bin says in a class of that bin."""

_SCALE = 0.75
"""Objects a third farther away: labels should move with them, and mostly do in a model that knows the domain."""

_FLOW_ERROR = 12.0
"""Grey levels by which a pixel and the one that flow says it came from may differ, else it is left out: occluded."""

_FEWEST_PIXELS = 0.2
"""Share of the image that flow must explain, or the pair says nothing of flicker."""


@dataclass(frozen=True)
class Candidate:
    """A model to be judged.

    Attributes:
        name: `given`, `instant` or `adapted`.
        predict: the model as it would run.
        other_plan: the same network under another window plan; None = it has one only.
        other_network: the student if `predict` is the teacher, or the reverse; None = there is none.
    """

    name: str
    predict: Predict
    other_plan: Predict | None = None
    other_network: Predict | None = None


@dataclass(frozen=True)
class FrameMeasures:
    """Measures of one model on one frame; shares are 0..1.

    Attributes:
        labels: class ids uint8 (H, W).
        confidence: mean probability of the winning class.
        flip, scale: share of pixels with the same class after mirroring, and at three quarters of the size.
        plan, network: share of pixels with the same class by `other_plan`, `other_network`; None without one.
        counts: int64 (classes, CONFIDENCE_BINS), pixels by predicted class and confidence.
        joint: int64 (classes, classes), pixels by their class in the frame and in its two other views.
    """

    labels: UInt8Array
    confidence: float
    flip: float
    scale: float
    plan: float | None
    network: float | None
    counts: npt.NDArray[np.int64]
    joint: npt.NDArray[np.int64]


def measure_frame(candidate: Candidate, rgb: UInt8Array, num_classes: int) -> FrameMeasures:
    """Run a candidate on a frame and on its variants.

    Args:
        rgb: uint8 (H, W, 3).
    """
    found = candidate.predict(rgb)
    labels = found.labels
    mirrored = candidate.predict(np.ascontiguousarray(rgb[:, ::-1])).labels[:, ::-1]
    smaller = _at_scale(candidate.predict, rgb)
    return FrameMeasures(
        labels=labels,
        confidence=float(found.confidence.mean()) / 255,
        flip=_same(mirrored, labels),
        scale=_same(smaller, labels),
        plan=None if candidate.other_plan is None else _same(candidate.other_plan(rgb).labels, labels),
        network=None if candidate.other_network is None else _same(candidate.other_network(rgb).labels, labels),
        counts=sureness(found, num_classes),
        joint=joint_classes(labels, mirrored, num_classes) + joint_classes(labels, smaller, num_classes),
    )


def sureness(found: Prediction, num_classes: int) -> npt.NDArray[np.int64]:
    """Count pixels by predicted class and confidence.

    Returns:
        int64 (num_classes, CONFIDENCE_BINS).
    """
    cells = num_classes * CONFIDENCE_BINS
    return np.bincount(_cells(found), minlength=cells)[:cells].reshape(num_classes, CONFIDENCE_BINS).astype(np.int64)


def seen_below(found: Prediction, truth: UInt8Array, num_classes: int, num_groups: int) -> npt.NDArray[np.int64]:
    """Count labelled pixels by what is there, predicted class and confidence.

    Args:
        truth: group ids uint8 (H, W); those of `num_groups` and more have no label.

    Returns:
        int64 (num_groups, num_classes, CONFIDENCE_BINS).
    """
    shape = (num_groups, num_classes, CONFIDENCE_BINS)
    known = (truth.reshape(-1) < num_groups) & (found.labels.reshape(-1) < num_classes)
    cells = truth.reshape(-1)[known].astype(np.int64) * (num_classes * CONFIDENCE_BINS) + _cells(found)[known]
    return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape).astype(np.int64)


def _cells(found: Prediction) -> npt.NDArray[np.int64]:
    bins = found.confidence.reshape(-1).astype(np.int64) * CONFIDENCE_BINS // 256
    return np.asarray(found.labels.reshape(-1).astype(np.int64) * CONFIDENCE_BINS + bins, np.int64)


def calibrated(seen: npt.NDArray[np.int64], groups: ClassGroups) -> FloatArray:
    """Compute what is there where a model gives a class with a certain confidence.

    Cells with few pixels lean on how often the model is right at that confidence, and on the shares of the groups.

    Args:
        seen: int64 (groups, classes, CONFIDENCE_BINS), labelled pixels as `seen_below` counts them.

    Returns:
        float64 (groups, classes, CONFIDENCE_BINS), 0..1: shares of the groups in the pixels of a cell.
    """
    total, own = max(int(seen.sum()), 1), groups.table()[: seen.shape[1]]
    mine = np.arange(len(seen))[:, None] == own  # (groups, classes)
    right = (seen * mine[..., None]).sum(axis=(0, 1))
    by_bin = (right + right.sum() / total * _PRIOR_OF_BIN) / (seen.sum(axis=(0, 1)) + _PRIOR_OF_BIN)
    others = np.where(mine, 0.0, (seen.sum(axis=(1, 2)) / total)[:, None])
    others /= np.maximum(others.sum(axis=0), 1e-12)
    # A class of no group is never right: all that it covers is of the groups.
    sure = np.where(mine.any(axis=0)[:, None], by_bin, 0.0)
    expected = np.where(mine[..., None], sure, others[..., None] * (1 - sure))
    return np.asarray((seen + expected * _PRIOR_OF_CLASS) / (seen.sum(axis=0) + _PRIOR_OF_CLASS), np.float64)


def without_confidence(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Move all pixels to one bin of confidence: what is left says how often each class is given, and how often rightly.

    Args:
        counts: int64 (..., CONFIDENCE_BINS), as `sureness` and `seen_below` count.

    Returns:
        the same shape; its first bin holds the sums.
    """
    moved = np.zeros_like(counts)
    moved[..., 0] = counts.sum(axis=-1)
    return moved


def expected_overlaps(counts: npt.NDArray[np.int64], shares: FloatArray, groups: ClassGroups) -> FloatArray:
    """Compute the pixels that labels would be expected to find right, predicted and labelled of each group.

    Args:
        counts: int64 (frames, classes, CONFIDENCE_BINS), pixels by predicted class and confidence.
        shares: float64 (groups, classes, CONFIDENCE_BINS), from `calibrated`.

    Returns:
        float64 (frames, 3, groups): right, predicted, labelled.
    """
    mine = (np.arange(len(shares))[:, None] == groups.table()[: counts.shape[1]]).astype(np.float64)
    right = np.einsum("fcb,gcb,gc->fg", counts, shares, mine, optimize=True)
    predicted = np.einsum("fcb,gc->fg", counts, mine, optimize=True)
    labelled = np.einsum("fcb,gcb->fg", counts, shares, optimize=True)
    return np.stack([right, predicted, labelled], axis=1)


def flicker(before: UInt8Array, after: UInt8Array, labels_before: UInt8Array, labels_after: UInt8Array) -> float | None:
    """Return the share of pixels whose class changes from one frame to the next, beyond the motion of the image.

    Dense optical flow finds the motion.

    Args:
        before, after: uint8 (H, W, 3).
        labels_before, labels_after: uint8 (H, W).

    Returns:
        0..1 over the pixels that the flow explains; None where these are too few, as between frames a second apart.
    """
    grey_before, grey_after = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (before, after))
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(grey_after, grey_before, None)  # type: ignore[attr-defined]
    rows, columns = np.indices(grey_after.shape, np.float32)
    place = columns + flow[..., 0], rows + flow[..., 1]
    came_from = cv2.remap(grey_before, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0.0,))
    explained = np.abs(came_from.astype(np.float32) - grey_after) < _FLOW_ERROR
    # 255 is no class: pixels that came from outside the image are left out.
    moved = cv2.remap(labels_before, *place, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(255.0,))
    explained &= moved != 255
    if explained.mean() < _FEWEST_PIXELS:
        return None
    return float((moved != labels_after)[explained].mean())


def mutual_information(joint: npt.NDArray[np.int64]) -> float:
    """Compute the mutual information of the two axes of a table of counts (C, C), bits; 0 = they are independent."""
    share = joint / max(joint.sum(), 1)
    share = (share + share.T) / 2  # neither view comes first
    independent = share.sum(axis=0) * share.sum(axis=1)[:, None]
    there = share > 0
    return float((share[there] * np.log2(share[there] / independent[there])).sum())


def divergence(one: FloatArray, two: FloatArray) -> float:
    """Compute the Jensen-Shannon divergence of two histograms in bits: 0 = equal, 1 = nothing in common."""
    first, second = (values / max(values.sum(), 1e-12) for values in (one, two))
    middle = (first + second) / 2
    return float((_relative_entropy(first, middle) + _relative_entropy(second, middle)) / 2)


def effective_classes(histogram: FloatArray) -> float:
    """Return the exponential of the entropy: the number of equally frequent classes that has it; 1 = a single class."""
    share = histogram / max(histogram.sum(), 1e-12)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def _relative_entropy(one: FloatArray, two: FloatArray) -> float:
    there = one > 0
    return float((one[there] * np.log2(one[there] / two[there])).sum())


def _at_scale(predict: Predict, rgb: UInt8Array) -> UInt8Array:
    height, width = rgb.shape[:2]
    small = resize_image(rgb, max(1, round(height * _SCALE)), max(1, round(width * _SCALE)), "area")
    return resize_map(predict(small).labels, height, width)


def joint_classes(one: UInt8Array, two: UInt8Array, num_classes: int) -> npt.NDArray[np.int64]:
    """Count the pixels of two masks by their classes, int64 (num_classes, num_classes)."""
    pairs = one.astype(np.int64) * num_classes + two
    counts = np.bincount(pairs[(one < num_classes) & (two < num_classes)], minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def _same(one: UInt8Array, two: UInt8Array) -> float:
    return float((one == two).mean())
