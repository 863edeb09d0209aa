"""Tables of the adaptation report: the meaning of each measure, its good direction, and its values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hrda_core.labels import LabelSpace
from hrda_core.report.run_data import number
from hrda_core.report.run_page import percent

__all__ = ["CANDIDATES", "MEASURES", "Measure", "candidate_name", "candidates_of", "class_scores", "class_shares",
           "css_colour", "measure_rows", "measure_text"]  # fmt: skip

CANDIDATES = {"given": "given model", "instant": "instant model", "adapted": "adapted model"}
"""Candidate -> what people read; the columns of all tables are in this order."""

_SMALLEST_SHARE = 0.0005
_LONGEST_NAME = 32


@dataclass(frozen=True)
class Measure:
    """A row of the table.

    Attributes:
        key: key in the judgement.
        name: name that people read.
        text: what it means, and which direction is good.
        unit: `%` (the value is a share 0..1), `bits`, or empty for a plain number.
        better: 1 = higher is better, -1 = lower is better, 0 = neither.
    """

    key: str
    name: str
    text: str
    unit: str = "%"
    better: int = 0


MEASURES = (
    Measure("estimate", "Estimated mIoU",
            "The mean IoU that labels would be expected to give: what is there on labelled source images where this "
            "model gives a class with a certain confidence. Higher is better. The verdict rests on it.", better=1),
    Measure("information", "Information between views",
            "How much the masks of mirrored and of smaller frames tell about the masks of the frames. Higher is "
            "better: masks agree and tell many classes apart, but spoilt models can have it too.", "bits", better=1),
    Measure("flip_agreement", "Agreement when mirrored",
            "Pixels that keep their class when the picture is mirrored. Higher is better, unless one class swallows "
            "the others: always the same answer agrees with itself.", better=1),
    Measure("scale_agreement", "Agreement on smaller frames",
            "Pixels that keep their class when the picture is made smaller. Higher is better, with the same limit.",
            better=1),
    Measure("plan_agreement", "Agreement of the window plans",
            "Pixels that get the same class with detail crops and without. Higher is better, with the same limit.",
            better=1),
    Measure("network_agreement", "Agreement of student and teacher",
            "Pixels that get the same class from both networks of the training. Higher is better: it settled.",
            better=1),
    Measure("confidence", "Confidence",
            "Mean probability of the winning class. Higher is better, but weak evidence: one can be sure and wrong.",
            better=1),
    Measure("flicker", "Flicker",
            "Pixels that change their class from a frame to the next, motion taken out. Lower is better.", better=-1),
    Measure("changed", "Changed pixels",
            "Pixels with another class than the given model's. Neither good nor bad: how much there is to look at."),
    Measure("drift", "Drift of the class shares",
            "How differently the classes are distributed from the given model's: 0 = as before, 1 = nothing in common. "
            "Low is good: the frames are the same, and a high value means that classes were lost.", "bits"),
    Measure("largest_share", "Share of the largest class",
            "A strong rise is bad: one class swallows the others."),
    Measure("effective_classes", "Effective number of classes",
            "How many classes are told apart, each counted by its share. A strong fall is bad: classes vanish.", ""),
    Measure("source_miou", "mIoU on held-out source images",
            "Accuracy on labelled images of the kind that the model was made with. Higher is better; a strong fall is "
            "forgetting.", better=1),
    Measure("eval_miou", "mIoU on labelled frames",
            "Accuracy against labels of the recording itself. Higher is better; the verdict was made without it.",
            better=1),
)  # fmt: skip


def candidates_of(judgement: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return candidate -> its values, the given model first; candidates without values have none."""
    found = judgement.get("candidates") or {}
    names = [name for name in CANDIDATES if name in found] + [name for name in found if name not in CANDIDATES]
    return {name: found[name] or {} for name in names}


def candidate_name(candidate: str) -> str:
    """Return the name that people read."""
    return CANDIDATES.get(candidate, candidate)


def measure_text(measure: Measure, value: Any) -> str:
    """Return a value in the measure's unit, without the unit, or a dash if there is none."""
    found = number(value)
    if not math.isfinite(found):
        return "–"
    return f"{100 * found:.1f}" if measure.unit == "%" else f"{found:.3f}" if measure.unit else f"{found:.1f}"


def measure_rows(candidates: Mapping[str, Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return rows of the measures for which some candidate has a value, and the names of the other measures.

    Each cell has a `text`, a `change` against the given model, and a `mark`: `better`, `worse` or nothing.
    """
    rows, unmeasured = [], []
    for measure in MEASURES:
        if not any(math.isfinite(number(values.get(measure.key))) for values in candidates.values()):
            unmeasured.append(measure.name)
            continue
        given = number(candidates.get("given", {}).get(measure.key))
        cells = [
            _cell(measure, values.get(measure.key), math.nan if name == "given" else given)
            for name, values in candidates.items()
        ]
        rows.append({"name": measure.name, "text": measure.text, "unit": measure.unit, "cells": cells})
    return rows, unmeasured


def class_scores(candidates: Mapping[str, Mapping[str, Any]], prefix: str) -> dict[str, Any] | None:
    """Return scores by class with their mean as a table, and as `values` for bars; None if no candidate has any.

    Args:
        prefix: `source` or `eval`.
    """
    scores = {candidate_name(name): values.get(f"{prefix}_iou") or {} for name, values in candidates.items()}
    scores = {name: found for name, found in scores.items() if found}
    means = {candidate_name(name): values.get(f"{prefix}_miou") for name, values in candidates.items()}
    names = list(dict.fromkeys(name for found in scores.values() for name in found))
    if not names:
        return None
    rows = [
        {"name": name, "mean": False, "cells": [percent(found.get(name)) for found in scores.values()]}
        for name in names
    ]
    rows.append({"name": "mean IoU", "mean": True, "cells": [percent(means[name]) for name in scores]})
    values = {_drawn(candidate): [number(found.get(name)) for name in names] for candidate, found in scores.items()}
    return {"columns": [f"{name}, %" for name in scores], "rows": rows, "names": [_drawn(name) for name in names],
            "values": values}  # fmt: skip


def class_shares(candidates: Mapping[str, Mapping[str, Any]], space: LabelSpace) -> dict[str, Any] | None:
    """Return class histograms as rows of bars, widths in per cent of the widest; None without a fitting histogram.

    Classes that no candidate sees are left out.
    """
    shares = {
        candidate_name(name): [number(share) for share in values["histogram"]]
        for name, values in candidates.items()
        if _fits(values.get("histogram"), space)
    }
    widest = max((share for found in shares.values() for share in found if math.isfinite(share)), default=0.0)
    if widest <= 0:
        return None
    rows = []
    for index, name in enumerate(space.classes):
        found = [shares_of[index] if math.isfinite(shares_of[index]) else 0.0 for shares_of in shares.values()]
        if max(found) >= _SMALLEST_SHARE:
            cells = [{"text": percent(share), "width": f"{100 * share / widest:.1f}"} for share in found]
            rows.append({"name": name, "colour": css_colour(space.palette[index]), "cells": cells})
    return {"candidates": list(shares), "rows": rows}


def css_colour(rgb: Sequence[int]) -> str:
    """Return a colour as a style sheet writes it."""
    return f"rgb({rgb[0]}, {rgb[1]}, {rgb[2]})"


def _fits(histogram: Any, space: LabelSpace) -> bool:
    return isinstance(histogram, Sequence) and len(histogram) == len(space)


def _drawn(name: str) -> str:
    """A name as matplotlib shall draw it: not too long for the figure, and no formula."""
    short = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return short.replace("$", r"\$")


def _cell(measure: Measure, value: Any, given: float) -> dict[str, str]:
    change = number(value) - given
    # What rounds to nothing is no change.
    if not math.isfinite(change) or measure_text(measure, abs(change)) == measure_text(measure, 0):
        return {"text": measure_text(measure, value), "change": "", "mark": ""}
    sign = "+" if change > 0 else "−"
    mark = "" if not measure.better else "better" if change * measure.better > 0 else "worse"
    text = f"{sign}{measure_text(measure, abs(change))}"
    return {"text": measure_text(measure, value), "change": text, "mark": mark}
