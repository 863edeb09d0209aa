"""Measures candidate models on held-out frames without labels, and on held-out source images with their labels.

Each frame is read once, every candidate runs on it, and only numbers are kept, so that the bootstrap of `verdict.py`
can resample frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.adaptation.verdict.measures import (
    Candidate,
    calibrated,
    divergence,
    effective_classes,
    expected_overlaps,
    flicker,
    measure_frame,
    mutual_information,
    seen_below,
    without_confidence,
)
from hrda_core.data.image_files import UInt8Array
from hrda_core.errors import DataError
from hrda_core.inference import Prediction
from hrda_core.labels import ClassGroups, LabelSpace
from hrda_core.metrics import Confusion, LabelledImages, at_size

__all__ = ["GIVEN", "CandidateMeasures", "Judgement", "expect", "expected_miou", "judge", "mean_iou", "shown"]

GIVEN = "given"

_LEAST_SHOWN = 0.001
"""Share of the pixels from which a group counts in an expected mean: of rarer ones the expectation knows nothing."""

LoadImage = Callable[[], UInt8Array]
Overlaps = list[list[list[int]]]
"""For each image three rows: pixels of each group that are right, that are predicted, that are labelled."""


@dataclass
class CandidateMeasures:
    """All measures of a candidate; lists have an entry for each frame, shares are 0..1.

    Attributes:
        confidence, flip, scale, plan, network: see `FrameMeasures`; `plan`, `network` empty where not measured.
        flickers: an entry for each pair of neighbouring frames whose motion optical flow explains.
        changed: share of pixels with another class than the given model's.
        joint: pixels of all frames by their class in the frame and in its other views, (classes, classes). It is a sum,
            since a table for each frame would fill the memory where there are many classes.
        counts: for each frame, pixels by predicted class and confidence.
        expected: for each frame the overlaps that labels would be expected to give (`expected_overlaps`); empty without
            a source.
        by_class: the same where confidence counts for nothing (`without_confidence`).
        source, labelled: overlaps (for IoU) of each held-out source image and of each labelled image of the target.
    """

    confidence: list[float] = field(default_factory=list)
    flip: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)
    plan: list[float] = field(default_factory=list)
    network: list[float] = field(default_factory=list)
    flickers: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)
    joint: list[list[int]] = field(default_factory=list)
    counts: list[list[list[int]]] = field(default_factory=list)
    expected: list[list[list[float]]] = field(default_factory=list)
    by_class: list[list[list[float]]] = field(default_factory=list)
    source: Overlaps = field(default_factory=list)
    labelled: Overlaps = field(default_factory=list)

    @property
    def information(self) -> float:
        """Mutual information of a frame's mask and the masks of its other views, over all frames, bits."""
        return mutual_information(np.asarray(self.joint, np.int64))

    @property
    def histogram(self) -> npt.NDArray[np.float64]:
        """Share of each class in all pixels."""
        counts = np.asarray(self.counts, np.float64).sum(axis=(0, 2))
        return np.asarray(counts / max(counts.sum(), 1), np.float64)


@dataclass(frozen=True)
class Judgement:
    """Measures of all candidates.

    Attributes:
        candidates: measures by name, `given` among them.
        frames: number of held-out frames.
        groups: names of the groups that overlaps are counted in.
        classes: names of the models' classes.
    """

    candidates: dict[str, CandidateMeasures]
    frames: int
    groups: tuple[str, ...]
    classes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything that was measured as plain values."""
        return {
            "frames": self.frames,
            "groups": list(self.groups),
            "classes": list(self.classes),
            "candidates": {name: asdict(measures) for name, measures in self.candidates.items()},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Judgement:
        """Read what `to_dict` returned.

        Raises:
            DataError: the values are those of another release.
        """
        try:
            candidates = {name: CandidateMeasures(**measures) for name, measures in values["candidates"].items()}
            return cls(candidates, int(values["frames"]), tuple(values["groups"]), tuple(values["classes"]))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"the kept measures are of another release ({error!r}); delete judgement.json in the working folder"
            ) from error

    def summary(self) -> dict[str, Any]:
        """Return means for reports, by candidate; None where a measure was not taken."""
        given = self.candidates[GIVEN].histogram
        return {
            "frames": self.frames,
            "candidates": {
                name: {
                    "estimate": expected_miou(found.expected),
                    "information": found.information,
                    "confidence": _mean(found.confidence),
                    "network_agreement": _mean(found.network),
                    "flip_agreement": _mean(found.flip),
                    "scale_agreement": _mean(found.scale),
                    "plan_agreement": _mean(found.plan),
                    "flicker": _mean(found.flickers),
                    "changed": _mean(found.changed),
                    "histogram": found.histogram.tolist(),
                    "drift": divergence(given, found.histogram),
                    "largest_share": float(found.histogram.max()),
                    "effective_classes": effective_classes(found.histogram),
                    "source_miou": mean_iou(found.source),
                    "source_iou": self._by_group(found.source),
                    "eval_miou": mean_iou(found.labelled),
                    "eval_iou": self._by_group(found.labelled),
                }
                for name, found in self.candidates.items()
            },
        }

    def _by_group(self, overlaps: Overlaps) -> dict[str, float | None] | None:
        if not overlaps:
            return None
        values = _iou(np.asarray(overlaps).sum(axis=0))
        return {name: None if np.isnan(v) else float(v) for name, v in zip(self.groups, values, strict=True)}


def judge(
    candidates: Sequence[Candidate],
    held_out: Sequence[LoadImage],
    pairs: Sequence[tuple[LoadImage, LoadImage]],
    source: LabelledImages | None,
    labelled: LabelledImages | None,
    space: LabelSpace,
    groups: ClassGroups,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Judgement:
    """Run every candidate on everything.

    Args:
        candidates: the models; one of them is named `given`.
        held_out: functions that read the held-out frames, RGB uint8 (H, W, 3).
        pairs: functions that read a frame and the one right after it.
        source: held-out source images; None = none.
        labelled: labelled images of the target; None = none.
        space: classes of the models and of all labels.
        groups: groups of these classes, for overlaps.
        progress: called with the number of images done and of all.

    Raises:
        DataError: an image or its labels cannot be used.
    """
    found = {candidate.name: CandidateMeasures() for candidate in candidates}
    steps = _Steps(progress, len(held_out) + len(pairs) + sum(len(part) for part in (source, labelled) if part))
    for load in held_out:
        _measure(candidates, load(), found, len(space))
        steps.done()
    for first, second in pairs:
        _measure_pair(candidates, first(), second(), found)
        steps.done()
    seen: dict[str, npt.NDArray[np.int64]] = {}
    for part, name in ((source, "source"), (labelled, "labelled")):
        for index in range(len(part) if part is not None else 0):
            assert part is not None
            counted = _score(candidates, *part.load(index), len(space), groups, found, name)
            if name == "source":
                seen = {candidate: seen.get(candidate, 0) + more for candidate, more in counted.items()}
            steps.done()
    for name, total in seen.items():
        if held_out:
            expect(found[name], total, groups)
    return Judgement(found, len(held_out), groups.names, space.classes)


def expect(found: CandidateMeasures, seen: npt.NDArray[np.int64], groups: ClassGroups) -> None:
    """Fill in the overlaps that labels would be expected to give on the held-out frames.

    Args:
        found: measures of a candidate, with its `counts`.
        seen: what lies below its masks of source images, int64 (groups, classes, CONFIDENCE_BINS).
    """
    counts = np.asarray(found.counts, np.int64)
    found.expected = expected_overlaps(counts, calibrated(seen, groups), groups).tolist()
    counts, seen = without_confidence(counts), without_confidence(seen)
    found.by_class = expected_overlaps(counts, calibrated(seen, groups), groups).tolist()


def mean_iou(overlaps: Overlaps | npt.NDArray[np.int64]) -> float | None:
    """Return the mean IoU over the groups that are labelled somewhere, 0..1; None without an image."""
    if not len(overlaps):
        return None
    total = np.asarray(overlaps).sum(axis=0)
    values = _iou(total)[total[2] > 0]
    return float(values.mean()) if len(values) else None


def expected_miou(
    overlaps: Sequence[Sequence[Sequence[float]]] | npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_] | None = None
) -> float | None:
    """Return the mean IoU that labels would be expected to give, 0..1; None without a frame.

    Args:
        overlaps: (frames, 3, groups), see `expected_overlaps`.
        chosen: bool (groups,), the groups whose mean is taken; None = those that `shown` finds.
    """
    if not len(overlaps):
        return None
    total = np.asarray(overlaps, np.float64).sum(axis=0)
    right, predicted, labelled = total[:, shown(overlaps) if chosen is None else chosen]
    return float((right / np.maximum(predicted + labelled - right, 1e-9)).mean())


def shown(overlaps: Sequence[Sequence[Sequence[float]]] | npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return the groups that are expected to cover more than a thousandth of the frames, bool (groups,)."""
    labelled = np.asarray(overlaps, np.float64).sum(axis=0)[2]
    return np.asarray(labelled > _LEAST_SHOWN * labelled.sum(), np.bool_)


def _measure(
    candidates: Sequence[Candidate], rgb: UInt8Array, found: dict[str, CandidateMeasures], num_classes: int
) -> None:
    labels = {}
    for candidate in candidates:
        frame = measure_frame(candidate, rgb, num_classes)
        into = found[candidate.name]
        into.confidence.append(frame.confidence)
        into.flip.append(frame.flip)
        into.scale.append(frame.scale)
        into.joint = _plus(into.joint, frame.joint)
        if frame.plan is not None:
            into.plan.append(frame.plan)
        if frame.network is not None:
            into.network.append(frame.network)
        into.counts.append(frame.counts.tolist())
        labels[candidate.name] = frame.labels
    for name, own in labels.items():
        found[name].changed.append(float((own != labels[GIVEN]).mean()))


def _measure_pair(
    candidates: Sequence[Candidate], before: UInt8Array, after: UInt8Array, found: dict[str, CandidateMeasures]
) -> None:
    for candidate in candidates:
        value = flicker(before, after, candidate.predict(before).labels, candidate.predict(after).labels)
        if value is not None:
            found[candidate.name].flickers.append(value)


def _score(
    candidates: Sequence[Candidate],
    rgb: UInt8Array,
    labels: UInt8Array,
    num_classes: int,
    groups: ClassGroups,
    found: dict[str, CandidateMeasures],
    name: str,
) -> dict[str, npt.NDArray[np.int64]]:
    """Add the overlaps of an image, and return what is seen below the masks of each candidate."""
    seen = {}
    table, count = groups.table(), len(groups.groups)
    for candidate in candidates:
        prediction, into = candidate.predict(rgb), found[candidate.name]
        masks, truth = table[at_size(prediction.labels, labels.shape)], table[labels]
        confusion = Confusion(count)
        confusion.add(masks, truth)
        counts = confusion.counts
        right, predicted, labelled = counts.diagonal(), counts[:, :count].sum(axis=0), counts.sum(axis=1)
        getattr(into, name).append([right.tolist(), predicted.tolist(), labelled.tolist()])
        sized = Prediction(at_size(prediction.labels, labels.shape), at_size(prediction.confidence, labels.shape))
        seen[candidate.name] = seen_below(sized, truth, num_classes, count)
    return seen


def _plus(counts: list[list[int]], more: npt.NDArray[np.int64]) -> list[list[int]]:
    return (more + np.asarray(counts or 0)).tolist()  # type: ignore[no-any-return]


class _Steps:
    """Counts what is done."""

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def done(self) -> None:
        self._done += 1
        self._progress(self._done, self._total)


def _iou(total: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    right, predicted, labelled = total
    union = predicted + labelled - right
    return np.asarray(np.divide(right, union, out=np.full(len(right), np.nan), where=union > 0), np.float64)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
