"""The report of a training run, as one self-contained HTML file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hrda_core.labels import EVALUATION_GROUPS
from hrda_core.plain_files import read_file
from hrda_core.report.figures import Curve, draw_bars, draw_confusion, draw_curves
from hrda_core.report.html_page import RUN_PAGE, jpeg, png, render, write_page
from hrda_core.report.run_data import RunData, latest, number, read_run, series

__all__ = ["REPORT_NAME", "class_tables", "percent", "score_curves", "write_report"]

REPORT_NAME = "report.html"

_MOST_PANELS = 12
_MUCH_WAITING = 0.2
"""Share of the time spent waiting for data above which the report says what helps."""


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder, from whatever the run left there.

    Returns:
        its path.

    Raises:
        DataError: the folder does not exist or cannot be written.
        MissingPackageError: jinja2 or matplotlib is not installed.
    """
    data = read_run(run)
    labels = [_label(line) for line in latest(data)]
    environment = data.environment
    shown = data.panels[::-1][:_MOST_PANELS]
    values = {
        "title": data.name,
        "state": data.state,
        "verdict": _verdict(data),
        "tiles": [_tile(line) for line in latest(data)],
        "missing": data.missing,
        "weights": _weights(environment.get("weights")),
        "deviations": _texts(environment.get("deviations")),
        "curves": _curves(data),
        "tables": class_tables(latest(data), labels),
        "confusions": list(_confusions(latest(data))),
        "panels": [{"iteration": _iteration(path), "picture": jpeg(read_file(path))} for path in shown],
        "older_panels": len(data.panels) - len(shown),
        "time": _time(data),
        "command": environment.get("command", ""),
        "environment": list(_flat(environment)),
        "audit": environment.get("audit", ""),
        "recipe": data.recipe_text,
    }
    return write_page(run / REPORT_NAME, render(RUN_PAGE, values))


def percent(value: Any) -> str:
    """Write a share 0..1 in per cent with one decimal, or a dash if there is none."""
    share = number(value)
    return "–" if math.isnan(share) else f"{100 * share:.1f}"


def score_curves(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """Return mIoU in per cent over iterations by data set and network."""
    curves = {}
    for label in dict.fromkeys(_label(line) for line in evaluations):
        iterations, values = series([line for line in evaluations if _label(line) == label], "mean_iou")
        if len(values):
            curves[label] = (iterations, 100 * values)
    return curves


def class_tables(lines: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each kind of groups a table of IoU, with a column for each evaluation, and the same as bars."""
    tables = []
    for groups in dict.fromkeys(str(line.get("groups", "")) for line in lines):
        columns = {
            label: line
            for label, line in zip(labels, lines, strict=True)
            if str(line.get("groups", "")) == groups and line["iou"]
        }
        if not columns:
            continue
        names = list(dict.fromkeys(name for line in columns.values() for name in line["iou"]))
        rows = [
            {"name": name, "mean": False, "cells": [percent(line["iou"].get(name)) for line in columns.values()]}
            for name in names
        ]
        for key, title in (
            ("mean_iou", "mean IoU"),
            ("pixel_accuracy", "pixel accuracy"),
            ("boundary_f", "boundary F"),
        ):
            rows.append({"name": title, "mean": True, "cells": [percent(line.get(key)) for line in columns.values()]})
        values = {label: [number(line["iou"].get(name)) for name in names] for label, line in columns.items()}
        tables.append({"groups": groups, "columns": columns, "rows": rows, "bars": png(draw_bars(names, values))})
    return tables


def _label(line: Mapping[str, Any]) -> str:
    return f"{line['name']}, {line['network']}"


def _verdict(data: RunData) -> str:
    steps = f"{data.done} of {data.planned} iterations" if data.planned else f"{data.done} iterations"
    if data.state == "finished":
        return f"{steps}; the weights are in model.safetensors."
    if data.state == "failed":
        return f"A loss was not finite after {steps}; the batch is in bad_batch.safetensors."
    return f"{steps}; the run was interrupted or is still going on, and can be resumed."


def _tile(line: Mapping[str, Any]) -> dict[str, str]:
    parts = [f"iteration {line['iteration']}"]
    if isinstance(line.get("images"), int):
        parts.append(f"{line['images']} images")
    parts += [f"{line['groups']}"] if line.get("groups") else []
    parts += [
        f"pixel accuracy {percent(line.get('pixel_accuracy'))} %",
        f"boundary F {percent(line.get('boundary_f'))} %",
    ]
    return {"label": _label(line), "mean_iou": percent(line.get("mean_iou")), "text": ", ".join(parts)}


def _weights(values: Any) -> dict[str, Any] | None:
    if not isinstance(values, Mapping) or not values:
        return None
    loaded, of = values.get("loaded"), values.get("of")
    return {
        "complete": loaded == of,
        "text": f"{loaded} of {of} tensors from {values.get('source', 'an unknown source')}",
    }


def _curves(data: RunData) -> dict[str, str]:
    """The figures that there are values for; the others are empty."""
    losses = _by_name(data.log, "losses")
    metrics = _by_name(data.log, "metrics")
    shares = {name: curve for name, curve in metrics.items() if _is_share(name, curve)}
    others = {name: curve for name, curve in metrics.items() if name not in shares}
    rate = series(data.log, "learning_rate")
    scores = score_curves(data.evaluations)
    return {
        "scores": png(draw_curves(scores, "mIoU, %", markers=True)) if scores else "",
        "losses": png(draw_curves(losses, "loss", smoothed=True, log_scale=True)) if losses else "",
        "shares": png(draw_curves(shares, "share", smoothed=True, share=True)) if shares else "",
        "others": png(draw_curves(others, "value", smoothed=True)) if others else "",
        "rate": png(draw_curves({"learning rate": rate}, "learning rate")) if len(rate[0]) else "",
    }


def _by_name(log: Sequence[Mapping[str, Any]], key: str) -> dict[str, Curve]:
    names = dict.fromkeys(name for line in log if isinstance(line.get(key), Mapping) for name in line[key])
    curves = {name: series(log, key, name) for name in names}
    return {name: curve for name, curve in curves.items() if len(curve[0])}


def _is_share(name: str, curve: Curve) -> bool:
    """Whether a metric is drawn on an axis of 0 to 1: by its name, unless its values say otherwise."""
    return name.endswith(("weight", "accuracy")) and bool((curve[1][np.isfinite(curve[1])] <= 1).all())


def _confusions(lines: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, str]]:
    for line in lines:
        try:
            counts = np.asarray(line.get("confusion"), np.float64)
        except (TypeError, ValueError):
            continue
        if counts.ndim == 2 and counts.size and counts.shape[1] - counts.shape[0] in (0, 1):
            yield {"label": _label(line), "picture": png(draw_confusion(counts, _class_names(line, len(counts))))}


def _class_names(line: Mapping[str, Any], count: int) -> Sequence[str]:
    """Names of the rows: what the line says, what its groups say, or what has a score."""
    known = EVALUATION_GROUPS.get(str(line.get("groups")))
    for names in (line.get("classes"), known and known.names, tuple(line["iou"])):
        if isinstance(names, Sequence) and len(names) == count:
            return [str(name) for name in names]
    return [str(index) for index in range(count)]


def _time(data: RunData) -> dict[str, Any] | None:
    steps, waits = series(data.log, "seconds")[1], series(data.log, "wait_seconds")[1]
    if not len(steps):
        return None
    total, waited = float(steps.sum()), float(waits.sum())
    share = waited / max(total + waited, 1e-9)
    rows = [
        ("steps", _duration(total)),
        ("waiting for data", f"{_duration(waited)}, {100 * share:.0f} %"),
        ("median step", f"{np.median(steps):.2f} s"),
        ("slowest step", f"{steps.max():.2f} s"),
    ]
    advice = (
        "Loading data slows the run down: give more runtime.workers, or smaller images."
        if share > _MUCH_WAITING
        else ""
    )
    return {"rows": rows, "advice": advice}


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Rows of the environment; what has a section of its own is left out."""
    for key, value in values.items():
        if not prefix and key in ("weights", "deviations", "audit", "command"):
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            yield f"{prefix}{key}", str(value)


def _texts(values: Any) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else []


def _iteration(path: Path) -> str:
    return path.stem.removeprefix("iteration_").lstrip("0") or "0"
