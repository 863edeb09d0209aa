"""The training part of the adaptation report: curves, and pictures of some steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hrda_core.data.frames import evenly_spaced
from hrda_core.plain_files import read_file
from hrda_core.report.figures import Curve, draw_curves
from hrda_core.report.html_page import jpeg, png
from hrda_core.report.run_data import RunData, read_run, series
from hrda_core.report.run_page import score_curves

__all__ = ["training_section"]

_MOST_PANELS = 4
_SHARES = ("weight", "accuracy")


def training_section(run: Path | None) -> dict[str, Any]:
    """Return what the page says of a run: `text`, `curves` (sources of `img`, empty if there is nothing), `panels`."""
    nothing: dict[str, Any] = {"curves": {"scores": "", "losses": "", "shares": ""}, "panels": []}
    if run is None:
        return {"text": "Nothing was trained.", **nothing}
    if not run.is_dir():
        return {"text": f"The folder of the training, {run}, is not there any more.", **nothing}
    data = read_run(run)
    text = f"{data.done} of {data.planned or data.done} steps." if data.log else "No steps are logged."
    return {"text": text, "curves": _curves(data), "panels": _panels(data.panels)}


def _curves(data: RunData) -> dict[str, str]:
    scores, losses = score_curves(data.evaluations), _by_name(data, "losses")
    metrics = _by_name(data, "metrics")
    shares = {name: curve for name, curve in metrics.items() if name.endswith(_SHARES)}
    return {
        "scores": png(draw_curves(scores, "mIoU, %", markers=True)) if scores else "",
        "losses": png(draw_curves(losses, "loss", smoothed=True, log_scale=True)) if losses else "",
        "shares": png(draw_curves(shares, "share", smoothed=True, share=True)) if shares else "",
    }


def _by_name(data: RunData, key: str) -> dict[str, Curve]:
    names = dict.fromkeys(name for line in data.log if isinstance(line.get(key), Mapping) for name in line[key])
    curves = {name: series(data.log, key, name) for name in names}
    return {name: curve for name, curve in curves.items() if len(curve[0])}


def _panels(paths: Sequence[Path]) -> list[dict[str, str]]:
    """From all over the run, the first and the last among them."""
    return [
        {"iteration": path.stem.removeprefix("iteration_").lstrip("0") or "0", "picture": jpeg(read_file(path))}
        for path in evenly_spaced(paths, _MOST_PANELS)
    ]
