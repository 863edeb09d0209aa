"""Draws figures of scores and curves as PNG bytes, by matplotlib without its global state, so any thread may draw.

The colours are those of Okabe and Ito, which people with any kind of colour vision can tell apart; lines also differ in
their dashes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.errors import require

__all__ = ["Curve", "draw_bars", "draw_confusion", "draw_curves", "smooth"]

Float64Array = npt.NDArray[np.float64]
Curve = tuple[Float64Array, Float64Array]
"""Iterations and values, (N,) each."""

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GREY = "#dddddd"
_MOST_POINTS = 1500
_SMOOTHED_SHARE = 0.03


def smooth(values: Float64Array, window: int) -> Float64Array:
    """Average over a centred window that shrinks at the ends, (N,) -> (N,); values that are not finite are left out."""
    half = max(0, window // 2)
    finite = np.isfinite(values)
    total = np.concatenate([[0], np.cumsum(np.where(finite, values, 0))])
    count = np.concatenate([[0], np.cumsum(finite)])
    places = np.arange(len(values))
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    with np.errstate(invalid="ignore"):
        return np.asarray(
            (total[last] - total[first]) / np.where(count[last] > count[first], count[last] - count[first], np.nan)
        )


def draw_curves(
    curves: Mapping[str, Curve],
    label: str,
    *,
    smoothed: bool = False,
    markers: bool = False,
    share: bool = False,
    log_scale: bool = False,
) -> bytes:
    """Draw curves over iterations, with a legend.

    Args:
        label: label of the vertical axis.
        smoothed: draw the mean over 3 % of the points, with the points themselves pale behind it.
        markers: mark the points, for few of them.
        share: the values are shares; the axis shows 0 to 1.
        log_scale: use a logarithmic axis if all values are above 0.
    """
    figure, axes = _figure(7.2, 3.6)
    for index, (name, (iterations, values)) in enumerate(curves.items()):
        colour, dash = _COLOURS[index % len(_COLOURS)], _DASHES[index // len(_COLOURS) % len(_DASHES)]
        marker = _MARKERS[index % len(_MARKERS)] if markers else None
        step = max(1, len(values) // _MOST_POINTS)
        if smoothed:
            axes.plot(iterations[::step], values[::step], color=colour, alpha=0.2, linewidth=0.7)
            values = smooth(values, round(_SMOOTHED_SHARE * len(values)))
        line = {"color": colour, "linestyle": dash, "marker": marker, "markersize": 5, "linewidth": 1.6}
        axes.plot(iterations[::step], values[::step], label=name, **line)
    positive = all((values[np.isfinite(values)] > 0).all() for _, values in curves.values())
    if log_scale and positive:
        axes.set_yscale("log")
    if share:
        axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("iteration")
    axes.set_ylabel(label)
    axes.grid(color=_GREY, linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _png(figure)


def draw_bars(rows: Sequence[str], columns: Mapping[str, Sequence[float]]) -> bytes:
    """Draw shares 0..1 as horizontal bars in percent: a group of bars per row, a colour per column; NaN has no bar."""
    thickness = 0.8 / max(1, len(columns))
    figure, axes = _figure(7.2, 0.8 + len(rows) * max(0.26, 0.14 * len(columns)))
    places = np.arange(len(rows))
    for index, (name, values) in enumerate(columns.items()):
        percent = 100 * np.asarray(values, np.float64)
        offset = (index - (len(columns) - 1) / 2) * thickness
        colour = _COLOURS[index % len(_COLOURS)]
        bars = axes.barh(places + offset, np.nan_to_num(percent), thickness, color=colour, label=name)
        texts = ["" if np.isnan(value) else f"{value:.1f}" for value in percent]
        axes.bar_label(bars, texts, padding=2, fontsize=7)
    axes.set_yticks(places, rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 108)
    axes.set_xlabel("IoU, %")
    axes.grid(axis="x", color=_GREY, linewidth=0.6)
    axes.set_axisbelow(True)
    if len(columns) > 1:
        axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return _png(figure)


_LARGEST_MATRIX = 14.0
"""Side of the cells of a confusion matrix together, inches."""


def draw_confusion(counts: npt.ArrayLike, names: Sequence[str]) -> bytes:
    """Draw what each labelled class was predicted as, in per cent of its pixels.

    Args:
        counts: (C, C) or (C, C + 1), rows are labels; a last extra column is "no class", drawn if it has pixels.
        names: names of the C classes. Rows without a labelled pixel are left grey. Cells of many classes are drawn
            smaller, without their number.
    """
    table = np.asarray(counts, np.float64)
    columns = list(names)
    if table.shape[1] > len(names):
        if table[:, -1].any():
            columns.append("no class")
        else:
            table = table[:, :-1]
    totals = table.sum(axis=1, keepdims=True)
    percent = 100 * np.divide(table, totals, out=np.full_like(table, np.nan), where=totals > 0)
    cell = min(0.42, _LARGEST_MATRIX / len(names))
    side = 1.8 + cell * len(names)
    figure, axes = _figure(side + 0.42, side)
    axes.set_facecolor(_GREY)
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    size = min(9, 60 * cell)  # points; lines of text as far apart as the cells
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled")
    axes.set_title("per cent of a labelled class's pixels", fontsize=9)
    for row, column in np.argwhere(percent >= 0.5) if cell > 0.3 else ():  # smaller cells hold no number
        value = percent[row, column]
        colour = "white" if value > 55 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    return _png(figure)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure of some inches with one plot in it."""
    matplotlib = require("matplotlib", "train")
    module = require("matplotlib.figure", "train")
    with matplotlib.rc_context({"font.size": 9}):
        figure = module.Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Any) -> bytes:
    """Written by the Agg canvas, which `savefig` chooses for PNG; no display is needed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
