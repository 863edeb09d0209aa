"""The log files of a training run: a line for each step, scores and pictures, and the same for TensorBoard.

| file | content |
|---|---|
| `log.jsonl` | one line for each step |
| `evaluations.jsonl` | one line for each scored data set and network |
| `panels/iteration_000100.jpg` | what a step saw |
| `environment.json` | versions, machine, weights, departures from the paper |
| `events.out.tfevents...` | TensorBoard, if installed |
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.data.image_files import encoded
from hrda_core.errors import TextError
from hrda_core.machine import commit, machine, versions
from hrda_core.plain_files import read_file
from hrda_core.untrusted_text import parse_json
from hrda_core.whole_files import write_json, write_whole

__all__ = [
    "ENVIRONMENT_NAME",
    "EVALUATIONS_NAME",
    "LOG_NAME",
    "Journal",
    "Progress",
    "environment",
    "read_evaluations",
    "trim_lines",
]

LOG_NAME = "log.jsonl"
EVALUATIONS_NAME = "evaluations.jsonl"
ENVIRONMENT_NAME = "environment.json"
PANELS_NAME = "panels"


@dataclass(frozen=True)
class Progress:
    """One line of the log.

    Attributes:
        iteration: steps done so far.
        iterations: steps in all.
        losses: weighted terms by name; their sum was minimised.
        metrics: other numbers by name: `pseudo_weight`, accuracies in 0..1.
        learning_rate: learning rate of the encoder.
        seconds: wall time of the step, without waiting for data.
        wait_seconds: time spent waiting for data.
    """

    iteration: int
    iterations: int
    losses: dict[str, float]
    metrics: dict[str, float]
    learning_rate: float
    seconds: float
    wait_seconds: float

    @property
    def loss(self) -> float:
        """Sum of the terms."""
        return sum(self.losses.values())


class Journal:
    """A context manager that writes the files of a run folder."""

    def __init__(self, run: Path, start: int) -> None:
        run.mkdir(parents=True, exist_ok=True)
        # A killed run may have logged steps after its last checkpoint; they are done again.
        for name in (LOG_NAME, EVALUATIONS_NAME):
            trim_lines(run / name, start)
        self._run = run
        self._log = (run / LOG_NAME).open("a", encoding="utf-8")
        self._board = _tensorboard(run, start)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()
        if self._board is not None:
            self._board.close()

    def step(self, progress: Progress) -> None:
        """Log a step."""
        self._log.write(json.dumps(asdict(progress)) + "\n")
        self._log.flush()
        if self._board is None:
            return
        for group, values in (("loss", progress.losses), ("metric", progress.metrics)):
            for name, value in values.items():
                self._board.add_scalar(f"{group}/{name}", value, progress.iteration)
        self._board.add_scalar("learning_rate", progress.learning_rate, progress.iteration)

    def evaluation(self, iteration: int, network: str, name: str, result: Mapping[str, Any]) -> None:
        """Log the scores of one network on one data set."""
        line = {"iteration": iteration, "network": network, "name": name, **result}
        with (self._run / EVALUATIONS_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None and line["mean_iou"] is not None:
            self._board.add_scalar(f"mean_iou/{name}/{network}", line["mean_iou"], iteration)

    def panel(self, iteration: int, picture: npt.NDArray[np.uint8]) -> None:
        """Keep a picture, uint8 (H, W, 3) RGB."""
        write_whole(self._run / PANELS_NAME / f"iteration_{iteration:06d}.jpg", encoded(picture, ".jpg", 85))
        if self._board is not None:
            self._board.add_image("panel", picture, iteration, dataformats="HWC")


def trim_lines(path: Path, iteration: int) -> None:
    """Drop the lines of a JSON-lines file that lie after `iteration`, and a last line that was cut off."""
    if not path.exists():
        return
    lines = read_file(path).decode(errors="replace").splitlines()
    kept = [line for line in lines if (place := _iteration(line)) is not None and place <= iteration]
    write_whole(path, "".join(f"{line}\n" for line in kept))


def read_evaluations(run: Path) -> list[dict[str, Any]]:
    """Return the scored lines of a run, oldest first, or nothing if it has none."""
    path = run / EVALUATIONS_NAME
    if not path.exists():
        return []
    return [parse_json(line) for line in read_file(path).decode().splitlines()]


def _iteration(line: str) -> int | None:
    try:
        return int(parse_json(line)["iteration"])
    except (TextError, ValueError, LookupError, TypeError, OverflowError):
        return None


def environment(device: str, threads: int, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return versions, machine, command and commit, for `environment.json`."""
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["hrda", *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
        "device": device,
        "threads": threads,
        **extra,
    }


def write_environment(run: Path, values: Mapping[str, Any]) -> None:
    """Write `environment.json`."""
    write_json(run / ENVIRONMENT_NAME, values)


def _tensorboard(run: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # `purge_step` hides what a killed run wrote beyond its checkpoint.
    return SummaryWriter(str(run), purge_step=start + 1)
