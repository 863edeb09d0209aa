"""Several runs side by side: scores, curves, classes, and in what their recipes differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hrda_core.errors import DataError
from hrda_core.report.figures import draw_curves
from hrda_core.report.html_page import COMPARISON_PAGE, png, render, write_page
from hrda_core.report.run_data import RunData, latest, read_run
from hrda_core.report.run_page import class_tables, percent, score_curves

__all__ = ["write_comparison"]


def write_comparison(runs: Sequence[Path], out: Path) -> Path:
    """Write one HTML file that compares runs by their last scores.

    Args:
        runs: folders of training runs, at least one; runs of the same name are told apart by their folders.
        out: the file.

    Returns:
        `out`.

    Raises:
        DataError: no runs, a folder does not exist, or `out` cannot be written.
        MissingPackageError: jinja2 or matplotlib is not installed.
    """
    if not runs:
        raise DataError("a comparison needs the folders of training runs; none were given")
    data = [read_run(run) for run in runs]
    names = _names(data)
    lines = [(name, line) for name, run in zip(names, data, strict=True) for line in latest(run)]
    curves = {
        f"{name}: {label}": curve
        for name, run in zip(names, data, strict=True)
        for label, curve in score_curves(run.evaluations).items()
    }
    labels = [f"{name}: {line['name']}, {line['network']}" for name, line in lines]
    values = {
        "title": "Comparison of training runs",
        "runs": names,
        "scores": [row for name, run in zip(names, data, strict=True) for row in _score_rows(name, run)],
        "missing": [f"{name}: {text}" for name, run in zip(names, data, strict=True) for text in run.missing],
        "curves": png(draw_curves(curves, "mIoU, %", markers=True)) if curves else "",
        "tables": class_tables([line for _, line in lines], labels),
        "differences": _differences([run.recipe for run in data]),
    }
    return write_page(out, render(COMPARISON_PAGE, values))


def _names(data: Sequence[RunData]) -> list[str]:
    names = [run.name for run in data]
    if len(set(names)) == len(names):
        return names
    return [f"{run.name} ({run.folder})" for run in data]


def _score_rows(name: str, run: RunData) -> list[dict[str, Any]]:
    """A row a scored data set and network; one without scores for a run that has none."""
    rows = [
        {
            "label": f"{line['name']}, {line['network']}",
            "iteration": line["iteration"],
            "mean_iou": percent(line.get("mean_iou")),
        }
        for line in latest(run)
    ]
    return [
        {"run": name, "state": run.state, **row}
        for row in rows or [{"label": "", "iteration": run.done, "mean_iou": "–"}]
    ]


def _differences(recipes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Recipe values that are not the same in all runs; a dash where a recipe lacks the key."""
    flat = [dict(_flat(recipe)) for recipe in recipes]
    rows = []
    for key in dict.fromkeys(key for values in flat for key in values):
        cells = [values.get(key, "–") for values in flat]
        if key != "name" and len(set(cells)) > 1:
            rows.append({"key": key, "cells": cells})
    return rows


def _flat(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Leaves of nested mappings by their path: `optim.lr`."""
    if isinstance(value, Mapping) and value:
        for key, entry in value.items():
            yield from _flat(entry, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(value)
