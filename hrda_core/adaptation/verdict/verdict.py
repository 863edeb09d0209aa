"""Decides without labels of the target whether to keep the given model or to take the instant or the adapted one.

The given model stays unless a candidate shows a gain beyond chance and meets no veto. The gain is one of information
(`measures.py`: how much the masks of mirrored and of smaller frames tell about the masks of the frames) or one of
steadiness (how little masks flicker). From day to dusk information rose with accuracy; from renderings to day it stood
still while accuracy rose by 5 to 7 points and flicker fell by a quarter to a half. Plain consistency and confidence are
weaker signs. A model that takes every class for another one, or has forgotten what it knew, can show such a gain too;
the vetoes guard against these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hrda_core.adaptation.verdict.bootstrap import Difference, paired_difference
from hrda_core.adaptation.verdict.judgement import GIVEN, CandidateMeasures, Judgement, Overlaps, mean_iou
from hrda_core.adaptation.verdict.measures import divergence, effective_classes, mutual_information
from hrda_core.labels import CITYSCAPES19

__all__ = ["Verdict", "VerdictRules", "agreement_with_labels", "decide", "label_verdicts"]


@dataclass(frozen=True)
class VerdictRules:
    """Thresholds of the verdict; shares are 0..1.

    Attributes:
        gain: information must rise by more than this, bits, and its lower bound must be above 0;
        steadier: or flicker must fall by more than this, also beyond chance, while information does not fall beyond
            chance.
        fewest: smallest number of held-out frames, or pairs of them, for a gain; bounds from fewer mean nothing.
        forgetting: source mIoU may fall by this, judged by the measured fall, or by the bound that is kind to the
            candidate where even that is worse. A bound alone would let the candidate forget the more, the fewer images
            are held out: it let eleven points pass.
        drift: largest divergence of the class histogram from the given model's, bits; both saw the same drive.
        drift_without_source: the same where nothing else guards against forgetting.
        fewest_classes: smallest number of effective classes, as a share of the given model's.
        largest_share: share of all pixels that one class may have beyond the given model's.
        confidence_fall: mean confidence may fall by this.
        flicker: change of classes between frames may rise by this.
        known, lost: a group of classes with a source IoU above `known` is lost where less than the share `lost` of it
            is left. Poles and riders that vanish change no other measure here.
        seen, vanished: the same without a source, for a class that had the share `seen` of all pixels.
    """

    gain: float = 0.02
    steadier: float = 0.02
    fewest: int = 5
    forgetting: float = 0.08
    drift: float = 0.10
    drift_without_source: float = 0.05
    fewest_classes: float = 0.7
    largest_share: float = 0.15
    confidence_fall: float = 0.05
    flicker: float = 0.03
    known: float = 0.10
    lost: float = 0.25
    seen: float = 0.002
    vanished: float = 0.1


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

    If both are better than the given model, the one with more information is taken; where they do not differ beyond
    chance, the instant one, which changed less.
    """
    rules = rules or VerdictRules()
    given = judgement.candidates[GIVEN]
    refusals: dict[str, tuple[str, ...]] = {}
    good: dict[str, Difference] = {}
    for name, found in judgement.candidates.items():
        if name == GIVEN:
            continue
        gain = _information_difference(given, found)
        against = (
            *_vetoes(given, found, rules),
            *_lost(given, found, judgement.groups, rules),
            *_without_gain(given, found, gain, rules),
        )
        if against:
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
    """The first, unless a later one has more information beyond chance: later candidates change more."""
    best, *others = good
    for name in others:
        if _information_difference(judgement.candidates[best], judgement.candidates[name]).low > 0:
            best = name
    return best


def _vetoes(given: CandidateMeasures, found: CandidateMeasures, rules: VerdictRules) -> tuple[str, ...]:
    before, after = given.histogram, found.histogram
    largest = int(after.argmax())
    drift = divergence(before, after)
    allowed = rules.drift if found.source else rules.drift_without_source
    rose = after[largest] - before[largest]
    fewer = effective_classes(after) / effective_classes(before)
    doubt = float(np.mean(given.confidence) - np.mean(found.confidence))
    checks = [
        (
            rose > rules.largest_share,
            f"'{CITYSCAPES19.classes[largest]}' covers {after[largest]:.0%} of all pixels, not {before[largest]:.0%}",
        ),
        (fewer < rules.fewest_classes, f"it tells fewer classes apart: {fewer:.0%} of the effective number before"),
        (drift > allowed, f"its classes are distributed otherwise: divergence {drift:.2f} bits, {allowed:.2f} allowed"),
        (doubt > rules.confidence_fall, f"its confidence fell by {doubt:.0%}, {rules.confidence_fall:.0%} allowed"),
    ]
    if found.source:
        forgot = _iou_difference(given.source, found.source)
        fall = -min(forgot.value, forgot.high)
        text = f"it forgot: {fall:.1%} mIoU less on held-out source images, {rules.forgetting:.0%} allowed"
        checks.append((fall > rules.forgetting, text))
    if found.flickers and given.flickers:
        rise = float(np.mean(found.flickers) - np.mean(given.flickers))
        checks.append((rise > rules.flicker, f"its masks flicker more: {rise:.1%} more pixels change between frames"))
    return tuple(text for refused, text in checks if refused)


def _lost(
    given: CandidateMeasures, found: CandidateMeasures, groups: Sequence[str], rules: VerdictRules
) -> tuple[str, ...]:
    """Small classes that are gone: on source images, else on the frames."""
    if found.source:
        before, after = (_group_iou(measures.source) for measures in (given, found))
        gone = (before > rules.known) & (after < rules.lost * before)
        names, where = groups, "IoU on held-out source images"
    else:
        before, after = given.histogram, found.histogram
        gone = (before > rules.seen) & (after < rules.vanished * before)
        names, where = CITYSCAPES19.classes, "of the pixels of held-out frames"
    if not gone.any():
        return ()
    lost = ", ".join(
        f"{names[index]} ({before[index]:.1%} -> {after[index]:.1%})" for index in np.flatnonzero(gone).tolist()
    )
    return (f"it lost classes, {where}: {lost}",)


def _without_gain(
    given: CandidateMeasures, found: CandidateMeasures, gain: Difference, rules: VerdictRules
) -> tuple[str, ...]:
    if len(found.flip) < rules.fewest:
        return (f"{len(found.flip)} held-out frames are too few to judge on; {rules.fewest} are needed",)
    if gain.low > 0 and gain.value > rules.gain:
        return ()
    fall = _flicker_fall(given, found, rules)
    if fall is not None and fall.low > 0 and fall.value > rules.steadier and gain.verdict != "worse":
        return ()
    return (_told_no_more(gain, rules) + _no_steadier(fall, rules),)


def _told_no_more(gain: Difference, rules: VerdictRules) -> str:
    bounds = f"{gain.value:+.2f} bits, between {gain.low:+.2f} and {gain.high:+.2f}"
    what = "its masks of mirrored and smaller frames"
    if gain.low > 0:
        return f"{what} tell more than before, yet too little ({bounds}; {rules.gain:.2f} needed)"
    return f"{what} do not tell more than before beyond doubt ({bounds})"


def _no_steadier(fall: Difference | None, rules: VerdictRules) -> str:
    """What flicker did, where that was no gain."""
    if fall is None:
        return ""
    rise = f"{0.0 - fall.value:+.1%}"
    if fall.verdict == "undecided":
        return f", and flicker did not change beyond doubt ({rise})"
    if fall.verdict == "worse":
        return f", and flicker rose ({rise})"
    if fall.value > rules.steadier:
        return f"; that flicker fell ({rise}) is no gain where they tell less"
    return f", and flicker fell too little ({rise}, {-rules.steadier:+.1%} needed)"


def _flicker_fall(given: CandidateMeasures, found: CandidateMeasures, rules: VerdictRules) -> Difference | None:
    """None with too few pairs."""
    before, after = np.asarray(given.flickers), np.asarray(found.flickers)
    if len(after) < rules.fewest or len(after) != len(before):
        return None
    return paired_difference(len(after), lambda chosen: float((before - after)[chosen].mean()))


def _reasons(given: CandidateMeasures, found: CandidateMeasures, gain: Difference) -> tuple[str, ...]:
    lines = [
        f"masks of mirrored and smaller frames tell {found.information:.2f} bits about those of the frames, "
        f"{given.information:.2f} before (gain between {gain.low:+.2f} and {gain.high:+.2f})",
        f"{np.mean(found.changed):.0%} of the pixels of held-out frames have another class than before, spread over "
        f"{effective_classes(found.histogram):.1f} effective classes ({effective_classes(given.histogram):.1f} before)",
    ]
    if found.flickers and given.flickers:
        lines.append(
            f"{np.mean(found.flickers):.1%} of the pixels change class from a frame to the next, "
            f"{np.mean(given.flickers):.1%} before"
        )
    before, after = mean_iou(given.source), mean_iou(found.source)
    if before is not None and after is not None:
        lines.append(f"held-out source images: {before:.1%} mIoU before, {after:.1%} after")
    else:
        lines.append("nothing labelled was at hand, so forgetting was not measured; stricter limits on drift were used")
    return tuple(lines)


def _information_difference(first: CandidateMeasures, second: CandidateMeasures) -> Difference:
    one, two = first.joints, second.joints
    return paired_difference(
        len(one),
        lambda chosen: mutual_information(two[chosen].sum(axis=0)) - mutual_information(one[chosen].sum(axis=0)),
    )


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
