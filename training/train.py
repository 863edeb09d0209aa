"""`hrda train RECIPE --run FOLDER`: train a network on labelled images.

hrda train config/recipes/synth_streets_hrda_lite.yaml --run runs/hrda_lite
hrda train RECIPE --run FOLDER --resume true            # go on after an interruption
hrda train RECIPE --run FOLDER --iterations 50          # any recipe value can be given as an option
"""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from hrda_core.errors import require
from hrda_core.trainer.loop import RECIPE_NAME, Progress, fit
from hrda_core.trainer.recipe import Recipe

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Parse, train, say where the weights are. Returns the exit code."""
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda train", description=__doc__.splitlines()[0])
    parser.add_argument("--config", action="config", help="recipe, a YAML file; also as the first plain argument")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoint, log and weights")
    parser.add_argument("--resume", type=bool, default=False, help="go on from the checkpoint in the run folder")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = PyTorch's choice")
    parser.add_argument(
        "--allow-random-backbone", action="store_true", help="let the encoder start from random weights"
    )
    parser.add_class_arguments(Recipe)
    if argv and not argv[0].startswith("-"):
        argv = ["--config", *argv]
    options = parser.parse_args(argv)
    recipe = parser.instantiate(options)
    values = {key: value for key, value in vars(recipe).items() if key in Recipe.__dataclass_fields__}
    stop = _StopRequest()
    if options.allow_random_backbone:
        values["model"] = replace(values["model"], imagenet=False, allow_random_backbone=True)
    if options.threads:
        require("torch", "train").set_num_threads(options.threads)
    weights = fit(Recipe(**values), options.run, resume=options.resume, report=_Printer(), should_stop=stop)
    if weights is None:
        print(f"\nstopped; go on with: hrda train {options.run / RECIPE_NAME} --run {options.run} --resume true")
        return 130
    print(f"\nweights: {weights}\nnext: hrda export {options.run} --out models/{recipe.name}")
    return 0


class _StopRequest:
    """Turns the first Ctrl-C or SIGTERM into "finish this step, write a checkpoint"; a second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def __call__(self) -> bool:
        return self._asked

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Printer:
    """One line a step on a terminal (overwritten), one line every 20 steps elsewhere, with the time that is left."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._first: int | None = None

    def __call__(self, progress: Progress) -> None:
        first = self._first = progress.iteration - 1 if self._first is None else self._first
        pace = (time.monotonic() - self._begin) / (progress.iteration - first)
        left = pace * (progress.iterations - progress.iteration)
        text = (
            f"iteration {progress.iteration}/{progress.iterations}  loss {sum(progress.losses.values()):.3f}  "
            f"accuracy {100 * progress.accuracy:.1f} %  {pace:.2f} s/iteration  {left / 60:.0f} min left"
        )
        if sys.stderr.isatty():
            print(f"\r{text}   ", end="", file=sys.stderr, flush=True)
        elif progress.iteration % 20 == 0 or progress.iteration == progress.iterations:
            print(text, file=sys.stderr, flush=True)
