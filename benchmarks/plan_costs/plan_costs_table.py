"""Makes the Markdown tables of docs/robot/real_time.md from the figures of plan_costs.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from plan_costs_masks import DAY, DUSK

__all__ = ["tables"]

Figures = Mapping[str, Any]
NONE = "-"
_AGREEMENTS = ("same_as_nested", "same_as_overlap", "same_as_overlap_near_seams", "same_as_overlap_where_sure")


def tables(figures: Figures) -> str:
    """Return all tables, each under a line that names it."""
    parts = {
        "cost": _cost({**figures["arms"], **figures["checks"]}),
        "accuracy": _accuracy(figures["arms"]),
        "checks": _accuracy(figures["checks"]),
        "1080x1920": _large(figures["gflop_1080x1920"]),
        "ratios": _ratios(figures["ratios"]),
    }
    return "\n\n".join(f"{name}\n\n{text}" for name, text in parts.items())


def _cost(arms: Figures) -> str:
    rows = []
    for name, arm in arms.items():
        times = [arm.get(f"threads_{threads}", {}) for threads in (1, 2)]
        shown = [_number(part.get(key)) for part in times for key in ("p50_ms", "processor_p50_ms")]
        rows.append([f"`{name}`", _number(arm["gflop"], 1), *shown, _number(arm.get("memory_mib", {}).get("peak"))])
    head = ["arm", "GFLOP", "1 thread, ms", "processor", "2 threads, ms", "processor", "memory, MiB"]
    return _table(head, rows)


def _accuracy(arms: Figures) -> str:
    head = [
        "arm",
        "GFLOP",
        "as `nested`",
        "as `overlap`",
        "near seams",
        "where sure",
        "mIoU",
        "boundary F",
        "near seams",
    ]
    rows = []
    for name, arm in arms.items():
        cells = [f"`{name}`", _number(arm["gflop"], 1)]
        cells += [_both(arm, key, 2) for key in _AGREEMENTS]
        cells += [_both(arm, key, 2) for key in ("mean_iou", "boundary_f", "seam_boundary_f")]
        rows.append(cells)
    return _table(head, rows)


def _large(presets: Figures) -> str:
    names = list(presets)
    rows = []
    for row in presets[names[0]]:
        reference = [presets[name]["nested, as the reference runs it"] / presets[name][row] for name in names]
        cells = [f"{presets[name][row]:.0f} ({ratio:.1f}x)" for name, ratio in zip(names, reference, strict=True)]
        rows.append([row, *cells])
    return _table(["GFLOP, 1080 x 1920 (below the first row by)", *names], rows)


def _ratios(ratios: Figures) -> str:
    keys = ("one_thread", "one_thread_processor", "two_threads", "best_of_pytorch")
    rows = [[f"`{name}`", *(f"{part[key]:.1f}" for key in keys)] for name, part in ratios.items()]
    head = ["eager PyTorch", "1 thread each", "processor time", "2 threads each", "PyTorch's best over 2 threads"]
    return _table(head, rows)


def _both(arm: Figures, key: str, digits: int) -> str:
    return " / ".join(_percent(arm.get(split, {}).get(key), digits) for split in (DAY, DUSK))


def _percent(share: float | None, digits: int) -> str:
    return NONE if share is None else f"{100 * share:.{digits}f}"


def _number(value: float | None, digits: int = 0) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
