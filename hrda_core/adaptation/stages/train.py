"""The stage `train` of an adaptation, and the networks that it leaves."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

from torch import Tensor

from hrda_core.adaptation.request import Request
from hrda_core.adaptation.stages.adopt import export_candidate, provenance, silent
from hrda_core.adaptation.stages.frames import Frames
from hrda_core.adaptation.stages.instant import INSTANT_FRAMES, adapt_instantly
from hrda_core.data.frames import UnlabelledFrames
from hrda_core.deploy.network import WEIGHTS_FILE
from hrda_core.deploy.network import load_network as load_bundled
from hrda_core.errors import HrdaError
from hrda_core.inference.bundle import Bundle
from hrda_core.input_scale import InputScale
from hrda_core.models.class_bias import ClassBias, bias_in
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


def adapted_bundle(request: Request, given: Bundle, start: Bundle, run: Path, frames: Frames, folder: Path) -> Bundle:
    """Write the moving average of a finished run to `folder` as a bundle, once, with statistics of the whole drive.

    After short runs the average is 3 to 5 points better than the student (docs/results/adaptation.md). Where the start
    gave the labels, the weights are the mean of the average's and of the start's: a network that learnt its own labels
    of one scene by heart is better on the next one half way back (weight-space ensembles, arXiv 2109.01903, which has
    the half where nothing can be tuned). BatchNorm statistics of the run are those of the last dozen batches of two
    crops, so they are measured anew, as of the start.

    Args:
        start: the instant candidate, from which the run started.

    Raises:
        DataError: there are too few frames of one size.
    """
    if folder.is_dir():
        return Bundle.open(folder)
    recipe = load_recipe(run)
    network = load_network(run, "teacher")
    bias, exported = run_bias(run, recipe), "teacher"
    if request.labelled_by == "once":
        network.load_state_dict(_mean(network.state_dict(), load_bundled(start).state_dict()))
        bias, exported = _mean_bias(bias, bias_in(start.file(WEIGHTS_FILE))), "mean of teacher and start"
    adapt_instantly(network, given, frames.adapt, INSTANT_FRAMES)
    return export_candidate(
        network,
        given,
        folder,
        frames.adapt.load(0),
        name=f"{given.name}_adapted",
        overrides=recipe.model.overrides,
        bias=bias,
        provenance=provenance(request, given, frames, recipe.provenance(exported)),
        say=silent,
    )


def _mean(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean of two states of one network. Counters, which BatchNorm has, are those of the first."""
    return {name: (value + two[name]) / 2 if value.is_floating_point() else value for name, value in one.items()}


def _mean_bias(one: ClassBias, two: ClassBias) -> ClassBias:
    """What of the classifier of two averaged networks is logit adjustment."""
    return tuple((a + b) / 2 for a, b in zip_longest(one, two, fillvalue=0.0))
