"""The report of an adaptation: whether the model became better, the evidence, and how to take it into use."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrda_core.data.frame_selection.selected_frames import REASONS
from hrda_core.labels import LabelSpace
from hrda_core.report.adaptation_measures import (
    MEASURES,
    candidate_name,
    candidates_of,
    class_scores,
    class_shares,
    css_colour,
    measure_rows,
    measure_text,
)
from hrda_core.report.adaptation_pictures import ChangedFrame, classes_in, draw_mask, draw_rgb, draw_what_changed
from hrda_core.report.adaptation_template import ADAPTATION_PAGE, ADAPTATION_STYLE
from hrda_core.report.adaptation_training import training_section
from hrda_core.report.figures import draw_bars
from hrda_core.report.html_page import jpeg, png, render, write_page
from hrda_core.report.run_data import number
from hrda_core.report.run_page import percent

__all__ = ["AdaptationReport", "ChangedFrame", "write_adaptation_report"]

_BANNERS = {
    "adapted": ("adopt", "The adapted model is better: adopt it", "Trained on the recording, without labels of it."),
    "instant": ("adopt", "Instant adaptation is enough: adopt it",
                "Only BatchNorm statistics were taken from the recording; nothing was trained in this model."),
    "given": ("keep", "Keep the old model", "No candidate is better beyond doubt. Nothing has to be done."),
}  # fmt: skip
_TILES = ("estimate", "source_miou", "eval_miou")


@dataclass(frozen=True, eq=False)
class AdaptationReport:
    """The content of the page.

    Attributes:
        title, command: heading, and the command line that was run.
        model: name and short hash of the given model.
        out: bundle folder of the chosen model.
        judgement: `frames`, and `candidates` -> measures by the keys of `MEASURES`, with `histogram`, `source_iou` and
            `eval_iou` (class -> IoU); whatever was not measured is None or absent.
        verdict: `choice`; `chosen_by` (`verdict`, `person`, or `option` for a choice of the user); `sure` (how often
            the verdict was right on its bench, a sentence); `reasons`; `refusals` (candidate -> sentences);
            `labels_agree` (None without labels); `person` (what a person said, as
            `hrda_core.comparison.session.Session.result` gives it; None = nobody was asked).
        selection: `counts` (reason -> frames), `frames` (analysed), `cameras`, `span_s` (seconds).
        selection_picture: PNG or JPEG.
        changed: frames that changed most, the most changed first.
        run: folder of the training; None = nothing was trained.
        notes: sentences on what was given up, departures from the paper, and warnings.
        stages: stages with their seconds.
        settings: options.
        label_space: classes of the histograms and masks.
    """

    title: str
    command: str
    model: str
    out: str
    judgement: Mapping[str, Any]
    verdict: Mapping[str, Any]
    selection: Mapping[str, Any]
    selection_picture: bytes | None
    changed: Sequence[ChangedFrame]
    run: Path | None
    notes: Sequence[str]
    stages: Sequence[tuple[str, float]]
    settings: Mapping[str, Any]
    label_space: LabelSpace


def write_adaptation_report(path: Path, report: AdaptationReport) -> Path:
    """Write the report as one self-contained HTML file, whole or not at all; return its path.

    What is missing in the report, or in the folder of its run, becomes a sentence on the page.

    Raises:
        DataError: the file cannot be written.
        MissingPackageError: jinja2 or matplotlib is not installed.
    """
    candidates = candidates_of(report.judgement)
    choice, compared = _choice(report), _compared(report, candidates)
    measures, unmeasured = measure_rows(candidates)
    forgetting = class_scores(candidates, "source")
    changed = [frame for frame in report.changed if {"given", compared} <= set(frame.labels)]
    values = {
        "title": report.title,
        "banner": _banner(report),
        "warnings": _warnings(report),
        "swap": "" if choice == "given" else _swap(report.out),
        "tiles": list(_tiles(candidates, compared)),
        "person": _person(report.verdict.get("person")),
        "reasons": _sentences(report.verdict.get("reasons")),
        "refusals": [
            {"name": candidate_name(name), "reasons": _sentences(texts)}
            for name, texts in (report.verdict.get("refusals") or {}).items()
        ],
        "candidates": [candidate_name(name) for name in candidates],
        "frames": report.judgement.get("frames") or "the",
        "measures": measures,
        "unmeasured": unmeasured,
        "labelled": class_scores(candidates, "eval"),
        "labels_text": _labels_text(report.verdict.get("labels_agree")),
        "forgetting": png(draw_bars(forgetting["names"], forgetting["values"])) if forgetting else "",
        "shares": class_shares(candidates, report.label_space),
        "compared": candidate_name(compared),
        "changed": [_changed(frame, compared, report.label_space) for frame in changed],
        "legend": _legend(changed, compared, report.label_space),
        "selection": _selection(report),
        "training": training_section(report.run),
        "stages": _stages(report.stages),
        "notes": [str(note) for note in report.notes],
        "command": report.command,
        "settings": [("given model", report.model), ("chosen model", report.out), *_flat(report.settings)],
    }
    return write_page(path, render(ADAPTATION_PAGE, values, ADAPTATION_STYLE))


def _choice(report: AdaptationReport) -> str:
    return str(report.verdict.get("choice") or "given")


def _compared(report: AdaptationReport, candidates: Mapping[str, Any]) -> str:
    """The candidate that stands against the given model in pictures and figures."""
    choice = _choice(report)
    if choice != "given":
        return choice
    drawn = [name for frame in report.changed for name in frame.labels]
    return next((name for name in ("adapted", "instant") if name in candidates or name in drawn), "given")


def _banner(report: AdaptationReport) -> dict[str, str]:
    choice = _choice(report)
    if report.verdict.get("chosen_by") == "option":
        headline = f"The {candidate_name(choice)} was chosen by option"
        return {"kind": "chosen", "headline": headline, "text": f"Not by the verdict. It is in {report.out}."}
    place = f"A copy of it is in {report.out}." if choice == "given" else f"It is in {report.out}."
    if report.verdict.get("chosen_by") == "person":
        kind, headline = "keep" if choice == "given" else "adopt", f"the {candidate_name(choice)} is more accurate"
        text = "Asked about pixels of held-out frames on which the models disagree."
        return {"kind": kind, "headline": f"A person judged: {headline}", "text": f"{text} {place}"}
    kind, headline, text = _BANNERS.get(choice, ("chosen", f"The {candidate_name(choice)} was chosen", ""))
    sure = " ".join(_sentences([report.verdict.get("sure") or ""]))
    return {"kind": kind, "headline": headline, "text": " ".join(part for part in (sure, text, place) if part)}


def _warnings(report: AdaptationReport) -> list[str]:
    warnings = []
    if _choice(report) in (report.verdict.get("refusals") or {}):
        warnings.append("The measurements speak against this choice; see below.")
    if report.verdict.get("labels_agree") is False:
        warnings.append("The labels that were given contradict the verdict: trust them, and see the scores below.")
    return warnings


def _person(said: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a person said, as sentences and rows; None = nobody was asked."""
    if not said:
        return None
    counts = said["answers"]
    rows = []
    for one in said["classes"]:
        # What rounds to nothing is +0.0, not -0.0.
        points = [f"{round(100 * one[key], 1) + 0.0:+.1f}" for key in ("difference", "low", "high")]
        rows.append({"name": one["name"], "cells": [*points, str(one["asked"])]})
    answers = (
        f"A ({said['a']}) was right in {counts['a']}, B ({said['b']}) in {counts['b']}, neither in "
        f"{counts['neither']}; {counts['unsure']} could not be told. The models disagree on "
        f"{percent(said['disagreement'])} % of the pixels of {said['frames']} frames."
    )
    return {"text": f"Result: {said['sentence']}. {answers}", "note": said["estimator"], "rows": rows}


def _swap(out: str) -> str:
    # The node may run in another folder than this command did.
    place = shlex.quote(str(Path(out).absolute()))
    return f"ros2 param set /segment_node model {place}\nros2 service call /segment_node/reload std_srvs/srv/Trigger"


def _tiles(candidates: Mapping[str, Mapping[str, Any]], compared: str) -> Iterable[dict[str, str]]:
    """The measures that tell most, before and after."""
    given, found = candidates.get("given", {}), candidates.get(compared, {})
    for measure in MEASURES:
        both = [number(values.get(measure.key)) for values in (given, found)]
        if measure.key in _TILES and compared != "given" and all(math.isfinite(value) for value in both):
            before, after = (measure_text(measure, value) for value in both)
            yield {"name": measure.name, "before": before, "after": after,
                   "text": f"{measure.unit}, given → {candidate_name(compared)}"}  # fmt: skip


def _labels_text(agree: bool | None) -> str:
    if agree is None:
        return ""
    return "They bear it out." if agree else "They contradict it."


def _changed(frame: ChangedFrame, compared: str, space: LabelSpace) -> dict[str, Any]:
    given, other = frame.labels["given"], frame.labels[compared]
    pictures = [
        {"caption": "camera", "source": jpeg(draw_rgb(frame.rgb))},
        {"caption": candidate_name("given"), "source": png(draw_mask(given, space))},
        {"caption": candidate_name(compared), "source": png(draw_mask(other, space))},
        {"caption": "what changed", "source": png(draw_what_changed(frame.rgb, given, other, space))},
    ]
    return {"name": frame.name, "percent": percent(frame.changed), "pictures": pictures}


def _legend(frames: Sequence[ChangedFrame], compared: str, space: LabelSpace) -> list[dict[str, str]]:
    """The classes that these masks hold; ids without a class are one black entry."""
    ids = classes_in(frames, ("given", compared))
    entries = [{"name": space.classes[i], "colour": css_colour(space.palette[i])} for i in ids if i < len(space)]
    unknown = any(i >= len(space) for i in ids)
    return [*entries, {"name": "no class", "colour": "black"}] if unknown else entries


def _selection(report: AdaptationReport) -> dict[str, Any]:
    found = report.selection
    counts = found.get("counts") or {}
    frames, span = number(found.get("frames")), number(found.get("span_s"))
    text = "" if math.isnan(frames) else f"{frames:.0f} frames were analysed"
    text += "" if math.isnan(span) or not text else f", of {span:.0f} s"
    cameras = ", ".join(str(camera) for camera in found.get("cameras") or ())
    picture = report.selection_picture
    return {
        "rows": [{"reason": name, "count": count, "text": REASONS.get(name, "")} for name, count in counts.items()],
        "text": f"{': '.join(part for part in (text, cameras) if part)}.".lstrip("."),
        "picture": "" if not picture else png(picture) if picture.startswith(b"\x89PNG") else jpeg(picture),
    }


def _stages(stages: Sequence[tuple[str, float]]) -> list[tuple[str, str]]:
    rows = [*stages, ("all", sum(seconds for _, seconds in stages))] if stages else []
    return [(name, f"{seconds / 60:.1f} min" if seconds >= 100 else f"{seconds:.1f} s") for name, seconds in rows]


def _sentences(texts: Iterable[Any] | None) -> list[str]:
    """With a capital at the beginning and a full stop at the end."""
    found = [str(text).strip() for text in texts or ()]
    return [text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".") for text in found if text]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)
