"""Draws figures over the time of a recording, as PNG bytes: measured values, and what became of the frames."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hrda_core.errors import require

__all__ = ["REASON_COLOURS", "draw_over_time", "draw_reasons"]

_LINE, _GREY = "#0072B2", "#dddddd"

REASON_COLOURS = {
    "kept": "#009E73",
    "held_out": "#0072B2",
    "gap": "#bbbbbb",
    "undecodable": "#000000",
    "dark": "#5b3a8c",
    "blown": "#E69F00",
    "noise": "#8a5a00",
    "blurred": "#CC79A7",
    "stride": "#cfe8df",
    "duplicate": "#56B4E9",
    "budget": "#8fd3bb",
}
"""Reason of frame selection -> colour. Reasons have a line each, so no two need to be told apart by colour alone."""


def draw_over_time(times: Sequence[float], curves: Mapping[str, Sequence[float | None]]) -> bytes:
    """Draw one plot for each curve, below each other, over the same seconds; None is a gap in the curve."""
    figure, plots = _figure(8.5, 1.4 * len(curves) + 0.5, rows=len(curves))
    for axes, (name, values) in zip(plots, curves.items(), strict=True):
        numbers = np.array([np.nan if value is None else value for value in values], np.float64)
        axes.plot(times, numbers, color=_LINE, linewidth=1.1, marker="." if len(times) < 200 else None, markersize=3)
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0)
        axes.grid(color=_GREY, linewidth=0.6)
    plots[-1].set_xlabel("seconds after the first image")
    return _png(figure)


def draw_reasons(times: Mapping[str, Mapping[str, Sequence[float]]]) -> bytes:
    """Draw a mark for each frame over time, with a line for each reason and a plot for each camera.

    Args:
        times: camera -> reason -> seconds after the first image.
    """
    reasons = [name for name in REASON_COLOURS if any(found.get(name) for found in times.values())]
    figure, plots = _figure(8.5, (0.17 * len(reasons) + 0.55) * len(times) + 0.4, rows=len(times))
    for axes, (camera, found) in zip(plots, times.items(), strict=True):
        for line, reason in enumerate(reasons):
            seconds = found.get(reason, ())
            axes.scatter(seconds, [line] * len(seconds), s=28, marker="|", color=REASON_COLOURS[reason])
        axes.set_yticks(range(len(reasons)), [f"{name} {len(found.get(name, ()))}" for name in reasons])
        axes.set_ylim(len(reasons) - 0.5, -0.5)
        axes.set_title(camera, fontsize=9, loc="left")
        axes.grid(axis="x", color=_GREY, linewidth=0.6)
    plots[-1].set_xlabel("seconds after the first image")
    return _png(figure)


def _figure(width: float, height: float, rows: int) -> tuple[Any, Any]:
    """A figure of some inches with plots below each other that share their horizontal axis."""
    matplotlib = require("matplotlib", "train")
    module = require("matplotlib.figure", "train")
    with matplotlib.rc_context({"font.size": 8}):
        figure = module.Figure(figsize=(width, height), layout="constrained")
        plots = figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0]
    for axes in plots:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, plots


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
