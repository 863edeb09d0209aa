"""The answers of a person as figures: which model is more accurate, by how much, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hrda_core.comparison.disagreement import Disagreement, Question
from hrda_core.comparison.sequential import LEVEL, Bounds, mean_with_bounds
from hrda_core.labels import LabelSpace

__all__ = ["ANSWERS", "ESTIMATOR", "ClassResult", "Comparison", "judge", "mean_answer", "points"]

ANSWERS = {"a": -1, "b": 1, "neither": 0, "unsure": 0}
"""What a person may say of a pixel -> what it counts: model B's accuracy minus A's. `unsure` = cannot tell."""

ESTIMATOR = (
    "The difference is the share of pixels on which the models disagree, times the mean of the answers: +1 where B is "
    "right, -1 where A is right, 0 for neither and for cannot tell. Every such pixel of the frames that were looked at "
    "has the same chance to be asked about, so that each answer has the same weight; the answers are stratified by "
    "pair of classes, whose shares are counted exactly. The bounds are a confidence sequence by betting, which holds "
    "at every moment: to stop as soon as it decides is no peeking."
)


@dataclass(frozen=True)
class ClassResult:
    """The difference on the pixels to which one of the models gives a class and the other does not.

    Attributes:
        name: class.
        share: share of these pixels among all, 0..1.
        asked: number of answers about them.
        difference: accuracy of B minus that of A, from these pixels alone, as a share of all pixels. A pixel counts
            for both of its classes, so that the classes add up to twice the whole.
        low, high: bounds, each class for itself.
    """

    name: str
    share: float
    asked: int
    difference: float
    low: float
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(vars(self))


@dataclass(frozen=True)
class Comparison:
    """What a person found.

    Attributes:
        disagreement: the pixels that were looked at.
        asked: number of questions that were answered.
        most: number of questions at which it ends at the latest.
        counts: number of each of `ANSWERS`.
        bounds: mean answer; see `mean_with_bounds`.
        classes: by class, the one with the largest share first.
        pairs: class of A, class of B, share of the pixels, and the counts of each of `ANSWERS`.
    """

    disagreement: Disagreement
    asked: int
    most: int
    counts: dict[str, int]
    bounds: Bounds
    classes: tuple[ClassResult, ...]
    pairs: tuple[dict[str, Any], ...]

    @property
    def better(self) -> str:
        """`a` or `b` where one is more accurate beyond chance, else empty."""
        return {1: "b", -1: "a", 0: ""}[self.bounds.sign if self.disagreement.pairs else 0]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to ask."""
        return bool(self.better) or self.asked >= self.most or not self.disagreement.pairs

    @property
    def difference(self) -> tuple[float, float, float]:
        """Accuracy of B minus that of A on all pixels, with its lower and its upper bound, -1..1."""
        share = self.disagreement.share
        return share * self.bounds.value, share * self.bounds.low, share * self.bounds.high

    def sentence(self, a: str, b: str) -> str:
        """Return the result in a sentence.

        Args:
            a, b: names of the models.
        """
        if not self.disagreement.pairs:
            return f"{a} and {b} give every pixel of {_counted(self.disagreement.frames, 'frame')} the same class"
        value, low, high = self.difference
        if self.better == "a":
            value, low, high = -value, -high, -low
        bounds = f"{points(value)} points of pixel accuracy, between {points(low)} and {points(high)}"
        after = f"after {_counted(self.asked, 'question')}"
        if not self.better:
            why = "" if self.asked < self.most else ", which is the most"
            return f"undecided {after}{why}: {b} against {a} is {bounds}"
        first, second = (a, b) if self.better == "a" else (b, a)
        return f"{first} is more accurate than {second} {after}: {bounds}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; differences are those of B minus A, shares of all pixels."""
        value, low, high = self.difference
        return {
            "better": self.better or None,
            "difference": value,
            "low": low,
            "high": high,
            "probability": 1 - LEVEL,
            "questions": self.asked,
            "most_questions": self.most,
            "answers": self.counts,
            "disagreement": self.disagreement.share,
            "frames": self.disagreement.frames,
            "unreadable_frames": self.disagreement.unreadable,
            "pixels": self.disagreement.pixels,
            "classes": [one.to_dict() for one in self.classes],
            "pairs": list(self.pairs),
            "estimator": ESTIMATOR,
        }


def points(share: float) -> str:
    """Return a difference of shares in points, with its sign; what rounds to nothing is +0.0."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def mean_answer(disagreement: Disagreement, questions: Sequence[Question], answers: Sequence[str], most: int) -> Bounds:
    """Return the mean answer with bounds, stratified by pair of classes; see `judge`."""
    numbers = {pair: number for number, pair in enumerate(disagreement.pairs)}
    asked = questions[: len(answers)]
    return mean_with_bounds(
        [ANSWERS[answer] for answer in answers],
        [numbers[question.a, question.b] for question in asked],
        list(disagreement.shares.values()),
        most,
    )


def judge(
    disagreement: Disagreement, questions: Sequence[Question], answers: Sequence[str], most: int, space: LabelSpace
) -> Comparison:
    """Make figures of the answers.

    Args:
        questions: all questions, in their order.
        answers: some of `ANSWERS`, for the first of them.
        most: number of questions at which it ends at the latest.
    """
    asked = list(zip(questions, answers, strict=False))
    bounds = mean_answer(disagreement, questions, answers, most)
    by_pair: dict[tuple[int, int], Counter[str]] = {}
    for question, answer in asked:
        by_pair.setdefault((question.a, question.b), Counter())[answer] += 1
    pairs = [
        {"a": _class_name(space, a), "b": _class_name(space, b), "share": count / disagreement.pixels}
        | {answer: by_pair.get((a, b), Counter())[answer] for answer in ANSWERS}
        for (a, b), count in disagreement.pairs.items()
    ]
    counts = Counter(answer for _, answer in asked)
    by_class = sorted(_by_class(disagreement, asked, most, space), key=lambda one: -one.share)
    return Comparison(
        disagreement,
        len(asked),
        most,
        {answer: counts[answer] for answer in ANSWERS},
        bounds,
        tuple(by_class),
        tuple(pairs),
    )


def _by_class(
    disagreement: Disagreement, asked: Sequence[tuple[Question, str]], most: int, space: LabelSpace
) -> Iterable[ClassResult]:
    """A class that no question was about has no result."""
    for number in sorted({label for question, _ in asked for label in (question.a, question.b)}):
        here = [ANSWERS[answer] for question, answer in asked if number in (question.a, question.b)]
        pixels = sum(count for pair, count in disagreement.pairs.items() if number in pair)
        share = pixels / disagreement.pixels
        expected = most * share / disagreement.share
        bounds = mean_with_bounds(here, [0] * len(here), [1.0], max(1, round(expected)))
        yield ClassResult(
            _class_name(space, number),
            share,
            len(here),
            share * bounds.value,
            share * bounds.low,
            share * bounds.high,
        )


def _class_name(space: LabelSpace, number: int) -> str:
    return space.classes[number] if number < len(space) else "no class"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
