"""Measures of masks without labels: confidence, consistency between views, steadiness in time.

None of them is accuracy. A model that always answers "road" is perfectly confident, consistent and steady. The mutual
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
from hrda_core.resizing import resize_image, resize_map

__all__ = [
    "Candidate",
    "FrameMeasures",
    "Predict",
    "divergence",
    "effective_classes",
    "flicker",
    "measure_frame",
    "mutual_information",
]

Predict = Callable[[UInt8Array], Prediction]
"""RGB uint8 (H, W, 3) -> class ids and confidence, uint8 (H, W) each."""

FloatArray = npt.NDArray[np.float64]

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
        counts: int64 (classes,), pixels of each class.
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
        counts=np.bincount(labels.reshape(-1), minlength=num_classes)[:num_classes].astype(np.int64),
        joint=_joint(labels, mirrored, num_classes) + _joint(labels, smaller, num_classes),
    )


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


def _joint(one: UInt8Array, two: UInt8Array, num_classes: int) -> npt.NDArray[np.int64]:
    pairs = one.astype(np.int64) * num_classes + two
    counts = np.bincount(pairs[(one < num_classes) & (two < num_classes)], minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes).astype(np.int64)


def _same(one: UInt8Array, two: UInt8Array) -> float:
    return float((one == two).mean())
