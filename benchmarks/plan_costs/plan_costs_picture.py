"""Draws the picture of docs/robot/real_time.md: mIoU of each arm over the cost of a frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter
from plan_costs_masks import DAY, DUSK

__all__ = ["draw"]

COLOURS = {
    "nested": "#4d4d4d",
    "overlap": "#7b3294",
    "tiles": "#1b6ca8",
    "topk": "#d95f02",
    "context": "#c51b7d",
}
SLIM = "#a6761d"
LABELS: dict[str, tuple[float, float]] = {
    "nested": (-16, 8),
    "overlap": (-12, 9),
    "overlap, graph": (-30, -14),
    "tiles": (8, -3),
    "context": (-16, -14),
}
DAY_LABELS: dict[str, tuple[float, float]] = {
    "topk 3 of 4": (-4, -14),
    "topk 2 of 4": (-12, 9),
    "topk 1 of 4": (-46, 7),
    "topk 2 of 4, feathered": (-78, 7),
}
DUSK_LABELS: dict[str, tuple[float, float]] = {"topk 3 of 4": (7, 2), "topk 2 of 4, feathered": (8, -5)}
"""Where labels stand if not right above their marks, because others are there: offset in points."""


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """Draw a column for each set of frames; x is operations in the upper row and time in the lower one."""
    arms = figures["arms"]
    figure, axes = plt.subplots(2, 2, figsize=(13, 10.5), sharey="col", layout="constrained")
    for column, (split, title) in enumerate(((DAY, "day"), (DUSK, "dusk"))):
        scored = next(arm[split] for arm in arms.values() if split in arm)
        for row, (axis, text) in enumerate((("gflop", "GFLOP"), ("threads_2", "ms, 2 threads of a CPU"))):
            panel = axes[row, column]
            _panel(panel, arms, split, axis)
            panel.set_xlabel(f"{text}, one frame of 640 x 480 (log)")
            panel.set_ylabel(f"mIoU of the {scored['classes']} classes with labels, %")
            panel.set_title(f"CamVid {title}, {scored['frames']} frames", fontsize=11, loc="left")
    figure.suptitle("Accuracy against cost: one model (hrda_lite), one machine. Squares: eager PyTorch", fontsize=13)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(panel: Axes, arms: Mapping[str, Any], split: str, axis: str) -> None:
    panel.set_xscale("log")
    labels = LABELS | (DAY_LABELS if split == DAY else DUSK_LABELS)
    for name, arm in arms.items():
        x = arm["gflop"] if axis == "gflop" else arm.get(axis, {}).get("p50_ms")
        if x is None or split not in arm:
            continue
        y = 100 * arm[split]["mean_iou"]
        colour = COLOURS.get(name.partition(",")[0].partition(" ")[0], SLIM)
        square = arm.get("memory_mib") is None  # PyTorch
        panel.scatter(x, y, s=48, c=colour, marker="s" if square else "o", edgecolors="white", linewidths=0.7, zorder=3)
        panel.annotate(
            name, (x, y), labels.get(name, (5, 4)), textcoords="offset points", fontsize=7.5, color=colour, zorder=4
        )
    ticks = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
    panel.xaxis.set_major_locator(FixedLocator(ticks))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.grid(color="#e5e5e5", linewidth=0.6, zorder=0)
    panel.margins(x=0.09, y=0.08)
    panel.spines[["top", "right"]].set_visible(False)
