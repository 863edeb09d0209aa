"""The training stage of an adaptation, and the networks that it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hrda_core.data.unlabelled import UnlabelledFrames
from hrda_core.errors import DataError, HrdaError
from hrda_core.report.html import write_report
from hrda_core.trainer.loading import load_network
from hrda_core.trainer.loop import Watch, fit
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.state import WEIGHTS_NAME

__all__ = ["StoppedError", "smallest_size", "train"]


class StoppedError(HrdaError):
    """The run was asked to stop; what it had reached is kept."""


def train(recipe: Recipe, run: Path, watch: Watch) -> None:
    """Train, or go on, until `load_network(run, "teacher")` gives the adapted network.

    Raises:
        StoppedError: `watch.should_stop` ended it early; a checkpoint is kept.
        DataError, TrainingError: see `hrda_core.trainer.loop.fit`.
    """
    if (run / WEIGHTS_NAME).is_file():
        return
    if fit(recipe, run, resume="auto", watch=watch) is None:
        raise StoppedError(f"stopped; the same command goes on from the checkpoint in '{run}'")
    write_report(run)
    load_network(run, "teacher")


def smallest_size(frames: UnlabelledFrames) -> tuple[int, int]:
    """Smallest height and smallest width of the frames, pixels.

    Raises:
        DataError: a frame cannot be read.
    """
    sizes = list(_sizes(frames))
    return min(height for height, _ in sizes), min(width for _, width in sizes)


def _sizes(frames: UnlabelledFrames) -> Iterator[tuple[int, int]]:
    found = False
    for _, height, width in frames.sizes():
        found = True
        yield height, width
    if not found:
        raise DataError("there is no frame to adapt on; give another recording")
