"""Reads a run folder for the report. Whatever is missing or damaged becomes a sentence, never an error.

Runs end in many ways (a full disk, a kill, a loss that is not finite), and those are the ones whose report matters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.errors import DataError, TextError
from hrda_core.plain_files import read_file
from hrda_core.untrusted_text import parse_json, parse_yaml

__all__ = ["RunData", "latest", "number", "read_run", "series"]

# The files of a run folder; `hrda_core/trainer/journal.py` and `loop.py` write them.
_RECIPE = "recipe.yaml"
_ENVIRONMENT = "environment.json"
_LOG = "log.jsonl"
_EVALUATIONS = "evaluations.jsonl"
_PANELS = "panels"
_WEIGHTS = "model.safetensors"
_BAD_BATCH = "bad_batch.safetensors"


@dataclass(frozen=True)
class RunData:
    """The content of a run folder.

    Attributes:
        folder: folder of the run.
        recipe_text: text of the complete recipe; empty if missing.
        recipe: the same, parsed; empty if missing or damaged.
        environment: versions, machine, weights, departures from the paper; empty if missing.
        log: lines of steps, by iteration.
        evaluations: lines of scores, in the order of writing.
        panels: pictures, oldest first.
        finished: whether exported weights exist.
        failed: whether the batch of a loss that was not finite was kept.
        missing: sentences on what is not there.
    """

    folder: Path
    recipe_text: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    log: Sequence[Mapping[str, Any]] = ()
    evaluations: Sequence[Mapping[str, Any]] = ()
    panels: Sequence[Path] = ()
    finished: bool = False
    failed: bool = False
    missing: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Name of the run, or of the folder if the recipe gives none."""
        return str(self.recipe.get("name") or self.folder.resolve().name)

    @property
    def done(self) -> int:
        """Number of steps done."""
        return int(self.log[-1]["iteration"]) if self.log else 0

    @property
    def planned(self) -> int:
        """Number of steps in all; 0 if neither recipe nor log says."""
        values = [self.log[-1].get("iterations") if self.log else None, self.recipe.get("iterations")]
        return next((int(count) for value in values if math.isfinite(count := number(value))), 0)

    @property
    def state(self) -> str:
        """`finished`, `failed` (a loss was not finite), or `stopped`."""
        if self.finished and (not self.planned or not self.log or self.done >= self.planned):
            return "finished"
        return "failed" if self.failed else "stopped"


def read_run(folder: Path) -> RunData:
    """Read whatever is in the folder.

    Raises:
        DataError: the folder itself does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"run folder '{folder}' does not exist; give the folder of a training run")
    missing: list[str] = []
    recipe_text = _read_text(folder / _RECIPE, missing)
    return RunData(
        folder=folder,
        recipe_text=recipe_text,
        recipe=_parse_recipe(recipe_text, missing),
        environment=_parse_environment(_read_text(folder / _ENVIRONMENT, missing), missing),
        log=_read_lines(folder / _LOG, ("iteration",), missing),
        evaluations=_read_lines(folder / _EVALUATIONS, ("iteration", "name", "network", "iou"), missing),
        panels=_panels(folder / _PANELS, missing),
        finished=(folder / _WEIGHTS).is_file(),
        failed=(folder / _BAD_BATCH).is_file(),
        missing=missing,
    )


def number(value: Any) -> float:
    """Return a float, which is NaN for anything that is no number."""
    return float(value) if isinstance(value, int | float) else math.nan


def series(lines: Sequence[Mapping[str, Any]], *keys: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return iterations and values, float64 (N,) each, of the lines with a number: `series(log, "losses", "fused")`."""
    found = []
    for line in lines:
        value: Any = line
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float):
            found.append((float(line["iteration"]), float(value)))
    points = np.array(found, np.float64).reshape(-1, 2)
    return points[:, 0], points[:, 1]


def latest(run: RunData) -> list[Mapping[str, Any]]:
    """Return the last evaluation of each data set and network, in the order of their first appearance."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for line in run.evaluations:
        found[str(line["name"]), str(line["network"])] = line
    return list(found.values())


def _read_text(path: Path, missing: list[str]) -> str:
    try:
        return read_file(path).decode(errors="replace")
    except OSError:
        missing.append(f"The run folder has no readable {path.name}.")
        return ""


def _parse_recipe(text: str, missing: list[str]) -> Mapping[str, Any]:
    try:
        values = parse_yaml(text)
    except TextError:
        values = None
    if isinstance(values, Mapping):
        return values
    if text:
        missing.append(f"{_RECIPE} is damaged and could not be parsed.")
    return {}


def _parse_environment(text: str, missing: list[str]) -> Mapping[str, Any]:
    try:
        values = parse_json(text) if text else {}
    except TextError:
        values = None
    if isinstance(values, Mapping):
        return values
    missing.append(f"{_ENVIRONMENT} is damaged and could not be parsed.")
    return {}


def _read_lines(path: Path, needed: Sequence[str], missing: list[str]) -> list[Mapping[str, Any]]:
    """The lines of a JSON-lines file that are mappings with the needed keys."""
    text = _read_text(path, missing)
    kept, left_out = [], 0
    for line in text.splitlines():
        try:
            values = parse_json(line)
        except TextError:
            values = None
        fits = isinstance(values, Mapping) and all(key in values for key in needed)
        if fits and isinstance(values["iteration"], int) and isinstance(values.get("iou", {}), Mapping):
            kept.append(values)
        else:
            left_out += bool(line.strip())
    if left_out:
        missing.append(f"{left_out} damaged line(s) of {path.name} were left out.")
    return kept


def _panels(folder: Path, missing: list[str]) -> list[Path]:
    found = sorted(folder.glob("iteration_*.jpg"))
    if not found:
        missing.append(f"The run folder has no pictures in {folder.name}/.")
    return found
