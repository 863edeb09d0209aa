"""The stage `train` of an adaptation, and the networks that it leaves."""

from __future__ import annotations

from pathlib import Path

from hrda_core.adaptation.request import Request
from hrda_core.adaptation.stages.adopt import export_candidate, provenance, silent
from hrda_core.adaptation.stages.frames import Frames
from hrda_core.adaptation.stages.instant import INSTANT_FRAMES, adapt_instantly
from hrda_core.data.frames import UnlabelledFrames
from hrda_core.errors import HrdaError
from hrda_core.inference.bundle import Bundle
from hrda_core.input_scale import InputScale
from hrda_core.report.run_page import write_report
from hrda_core.trainer.class_shares import run_bias
from hrda_core.trainer.loading import load_network, load_recipe
from hrda_core.trainer.loop import Watch, fit
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.state import WEIGHTS_NAME

__all__ = ["StoppedError", "adapted_bundle", "smallest_size", "train"]


class StoppedError(HrdaError):
    """The run was asked to stop; what it has reached is kept."""


def train(recipe: Recipe, run: Path, watch: Watch) -> None:
    """Train, or continue, until `load_network(run, "teacher")` gives the adapted network.

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


def smallest_size(frames: UnlabelledFrames, scale: InputScale) -> tuple[int, int]:
    """Return smallest height and smallest width of the frames, pixels, as a network with this scale sees them.

    Raises:
        DataError: a frame cannot be read.
    """
    heights, widths = zip(*(scale.size(height, width) for _, height, width in frames.sizes()), strict=True)
    return min(heights), min(widths)


def adapted_bundle(request: Request, given: Bundle, run: Path, frames: Frames, folder: Path) -> Bundle:
    """Write the moving average of a finished run to `folder` as a bundle, once, with statistics of the whole drive.

    After short runs the average is 3 to 5 points better than the student (docs/results/adaptation.md). Its own
    BatchNorm statistics are those of the last dozen batches of two crops, so they are measured anew, as of the instant
    candidate. Training cannot lose what these statistics gain.

    Raises:
        DataError: there are too few frames of one size.
    """
    if folder.is_dir():
        return Bundle.open(folder)
    recipe = load_recipe(run)
    network = load_network(run, "teacher")
    adapt_instantly(network, given, frames.adapt, INSTANT_FRAMES)
    return export_candidate(
        network,
        given,
        folder,
        frames.adapt.load(0),
        name=f"{given.name}_adapted",
        overrides=recipe.model.overrides,
        bias=run_bias(run, recipe),
        provenance=provenance(request, given, frames, recipe.provenance("teacher")),
        say=silent,
    )
