"""Decides without labels of the target whether to keep the given model or to take the instant or the adapted one.

The given model stays unless a candidate shows a gain beyond chance and meets no veto. The gain is one of the mean IoU
that labels would be expected to give (`measures.py`): what is there where a model gives a class with a certain
confidence is counted on labelled source images, for each model anew, and applied to the held-out frames. Confidence
itself, steadiness and information between views are reported and decide nothing: on the bench (docs/results/verdict.md)
each of them rises for models that labels find worse. Without a labelled source the verdict is not sure, and the given
model stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hrda_core.adaptation.verdict.bootstrap import Difference, paired_difference
from hrda_core.adaptation.verdict.judgement import (
    GIVEN,
    CandidateMeasures,
    Judgement,
    Overlaps,
    expected_miou,
    mean_iou,
    shown,
)
from hrda_core.adaptation.verdict.measures import effective_classes

__all__ = ["Verdict", "VerdictRules", "agreement_with_labels", "decide", "label_verdicts"]


@dataclass(frozen=True)
class VerdictRules:
    """Thresholds of the verdict; shares are 0..1.

    Attributes:
        gain: expected mIoU must rise by more than this, and its lower bound must be above 0.
        fewest: smallest number of held-out frames for a gain: three blocks of three neighbours.
        sureness: expected mIoU may fall by this where confidence counts for nothing. A network that learnt labels of
            its own by heart is surer of the drive than it is right, and that alone lifts the estimate.
        forgetting: source mIoU may fall by this, as measured. A bound alone would let the candidate forget the more,
            the fewer images are held out: it let eleven points pass.
        information: bits by which the information between views may fall. A network whose statistics fit none of its
            layers is right on source images where it is sure, and on the drive it tells nothing apart.
        fewest_classes: smallest number of effective classes, as a share of the given model's.
        flicker: change of classes between frames may rise by this.
        known, lost: a group of classes with a source IoU above `known` is lost where less than the share `lost` of it
            is left. Poles and riders that vanish change no other measure here.
    """

    gain: float = 0.02
    fewest: int = 9
    sureness: float = 0.02
    forgetting: float = 0.05
    information: float = 0.3
    fewest_classes: float = 0.7
    flicker: float = 0.03
    known: float = 0.10
    lost: float = 0.25


@dataclass(frozen=True)
class Verdict:
    """The decision and its reasons.

    Attributes:
        choice: `given`, `instant` or `adapted`.
        reasons: sentences that explain the choice.
        refusals: candidate -> why it was not taken.
    """

    choice: str
    reasons: tuple[str, ...]
    refusals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def decide(judgement: Judgement, rules: VerdictRules | None = None) -> Verdict:
    """Choose a candidate.

    If both are better than the given model, the one with the higher estimate is taken; where they do not differ beyond
    chance, the instant one, which changed less.
    """
    rules = rules or VerdictRules()
    given = judgement.candidates[GIVEN]
    refusals: dict[str, tuple[str, ...]] = {}
    good: dict[str, Difference] = {}
    for name, found in judgement.candidates.items():
        if name == GIVEN:
            continue
        gain = _gain(given, found)
        against = (
            *_vetoes(given, found, rules),
            *_lost(given, found, judgement.groups, rules),
            *_without_gain(found, gain, rules),
        )
        if against or gain is None:
            refusals[name] = against
        else:
            good[name] = gain
    if not good:
        return Verdict(GIVEN, ("no candidate is better than the given model beyond doubt",), refusals)
    choice = _best(judgement, good)
    for name in good:
        if name != choice:
            refusals[name] = (f"good too, but {choice} is at least as good",)
    return Verdict(choice, _reasons(given, judgement.candidates[choice], good[choice]), refusals)


def label_verdicts(judgement: Judgement) -> dict[str, Difference]:
    """Return each candidate's mIoU minus the given model's on the labelled images of the target, with bounds."""
    given = judgement.candidates[GIVEN].labelled
    return {
        name: _iou_difference(given, found.labelled)
        for name, found in judgement.candidates.items()
        if name != GIVEN and found.labelled
    }


def agreement_with_labels(judgement: Judgement, choice: str = "") -> bool | None:
    """Return whether labels of the target support the verdict; None without labels.

    They do unless the chosen model is worse than the given one beyond chance, or the given one is kept while a
    candidate is better beyond chance.

    Args:
        choice: the choice; empty = as `decide` chooses.
    """
    verdicts = {name: difference.verdict for name, difference in label_verdicts(judgement).items()}
    if not verdicts:
        return None
    choice = choice or decide(judgement).choice
    if choice == GIVEN:
        return "better" not in verdicts.values()
    return verdicts[choice] != "worse"


def _best(judgement: Judgement, good: Mapping[str, Difference]) -> str:
    """The first, unless a later one has a higher estimate beyond chance: later candidates change more."""
    best, *others = good
    for name in others:
        gain = _gain(judgement.candidates[best], judgement.candidates[name])
        if gain is not None and gain.low > 0:
            best = name
    return best


def _gain(given: CandidateMeasures, found: CandidateMeasures) -> Difference | None:
    """Rise of the expected mean IoU; None without a source, or without a frame.

    The mean is over the groups that either model is expected to meet: one that says "car" nowhere shall not be spared
    the cars that the other finds.
    """
    if not given.expected or not found.expected:
        return None
    before, after = np.asarray(given.expected), np.asarray(found.expected)
    groups = shown(before) | shown(after)

    def rise(frames: np.ndarray) -> float:
        values = [expected_miou(overlaps[frames], groups) for overlaps in (before, after)]
        return float(values[1]) - float(values[0])  # type: ignore[arg-type]

    return paired_difference(len(after), rise)


def _fall_by_class(given: CandidateMeasures, found: CandidateMeasures) -> float:
    """Fall of the expected mean IoU without confidence, over the groups of `_gain`; 0 without a source."""
    if not given.by_class or not found.by_class:
        return 0.0
    groups = shown(given.expected) | shown(found.expected)
    before, after = (expected_miou(measures.by_class, groups) for measures in (given, found))
    assert before is not None
    assert after is not None
    return before - after


def _vetoes(given: CandidateMeasures, found: CandidateMeasures, rules: VerdictRules) -> tuple[str, ...]:
    fewer = effective_classes(found.histogram) / effective_classes(given.histogram)
    text = f"it tells fewer classes apart: {fewer:.0%} of the effective number before"
    checks = [(fewer < rules.fewest_classes, text)]
    surer = _fall_by_class(given, found)
    text = f"it is surer, not better: by its classes alone its estimated mIoU falls by {surer:.1%}"
    checks.append((surer > rules.sureness, f"{text}, {rules.sureness:.0%} allowed"))
    told = given.information - found.information
    text = f"masks of its mirrored and smaller frames tell {told:.2f} bits less, {rules.information:.2f} allowed"
    checks.append((told > rules.information, text))
    known, kept = mean_iou(given.source), mean_iou(found.source)
    if known is not None and kept is not None:
        text = f"it forgot: {known - kept:.1%} mIoU less on held-out source images, {rules.forgetting:.0%} allowed"
        checks.append((known - kept > rules.forgetting, text))
    if found.flickers and given.flickers:
        rise = float(np.mean(found.flickers) - np.mean(given.flickers))
        checks.append((rise > rules.flicker, f"its masks flicker more: {rise:.1%} more pixels change between frames"))
    return tuple(text for refused, text in checks if refused)


def _lost(
    given: CandidateMeasures, found: CandidateMeasures, groups: Sequence[str], rules: VerdictRules
) -> tuple[str, ...]:
    """Small classes that are gone on source images."""
    if not found.source:
        return ()
    before, after = (_group_iou(measures.source) for measures in (given, found))
    gone = np.flatnonzero((before > rules.known) & (after < rules.lost * before))
    if not len(gone):
        return ()
    lost = ", ".join(f"{groups[index]} ({before[index]:.1%} -> {after[index]:.1%})" for index in gone.tolist())
    return (f"it lost classes, IoU on held-out source images: {lost}",)


def _without_gain(found: CandidateMeasures, gain: Difference | None, rules: VerdictRules) -> tuple[str, ...]:
    frames = len(found.flip)
    if frames < rules.fewest:
        return (
            f"{frames} held-out frames are too few for blocks of neighbours; {rules.fewest} are needed: give a longer "
            f"recording, or hold out more of it (--held_out)",
        )
    if gain is None:
        return (
            "nothing labelled was at hand, so that its mIoU cannot be estimated; give a --source with labels, or "
            "decide by --ask",
        )
    if gain.low > 0 and gain.value > rules.gain:
        return ()
    bounds = f"{100 * gain.value:+.1f} points, between {100 * gain.low:+.1f} and {100 * gain.high:+.1f}"
    if gain.low > 0:
        return (f"its estimated mIoU rose too little ({bounds}; {100 * rules.gain:.1f} needed)",)
    if gain.high < 0:
        return (f"its estimated mIoU fell ({bounds})",)
    return (f"its estimated mIoU did not change beyond doubt ({bounds})",)


def _reasons(given: CandidateMeasures, found: CandidateMeasures, gain: Difference) -> tuple[str, ...]:
    before, after = expected_miou(given.expected), expected_miou(found.expected)
    lines = [
        f"mIoU as estimated with labelled source images: {before:.1%} before, {after:.1%} after "
        f"(gain between {100 * gain.low:+.1f} and {100 * gain.high:+.1f} points)",
        f"{np.mean(found.changed):.0%} of the pixels of held-out frames have another class than before, spread over "
        f"{effective_classes(found.histogram):.1f} effective classes ({effective_classes(given.histogram):.1f} before)",
    ]
    if found.flickers and given.flickers:
        lines.append(
            f"{np.mean(found.flickers):.1%} of the pixels change class from a frame to the next, "
            f"{np.mean(given.flickers):.1%} before"
        )
    known, kept = mean_iou(given.source), mean_iou(found.source)
    if known is not None and kept is not None:
        lines.append(f"held-out source images: {known:.1%} mIoU before, {kept:.1%} after")
    return tuple(lines)


def _iou_difference(first: Overlaps, second: Overlaps) -> Difference:
    """Difference of mean IoU, bootstrapped over images."""
    one, two = np.asarray(first), np.asarray(second)

    def statistic(chosen: np.ndarray) -> float:
        values = [mean_iou(overlaps[chosen]) for overlaps in (one, two)]
        return float("nan") if None in values else float(values[1]) - float(values[0])  # type: ignore[arg-type]

    return paired_difference(len(one), statistic)


def _group_iou(overlaps: Overlaps) -> np.ndarray:
    """(groups,); 0 where a group is neither labelled nor predicted."""
    right, predicted, labelled = np.asarray(overlaps).sum(axis=0)
    return np.asarray(right / np.maximum(predicted + labelled - right, 1))
