"""`hrda train RECIPE --run FOLDER`: train a network, with or without unlabelled images of the target domain.

hrda train config/recipes/NAME.yaml --run runs/NAME
hrda train RECIPE --check                               # open the data, take three steps, estimate time and memory
hrda train RECIPE --run FOLDER --resume auto            # start, or continue after an interruption
hrda train RECIPE --run FOLDER --iterations 50          # any recipe value can be given as an option
torchrun --nproc_per_node 2 -m hrda_training -- train RECIPE --run FOLDER
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from hrda_core.data.packs.format import MANIFEST as PACK_NAME
from hrda_core.errors import RecipeError, TextError, require
from hrda_core.inference.bundle import MANIFEST_NAME
from hrda_core.trainer.check import estimate
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME
from hrda_core.trainer.loading import add_recipe_arguments
from hrda_core.trainer.loop import RECIPE_NAME, Watch, fit
from hrda_core.trainer.recipe import Recipe, check_keys
from hrda_core.untrusted_text import read_yaml_file

from .arguments import first_line, parse
from .predict import MARKER as MASKS_NAME
from .progress import ProgressPrinter
from .stop_request import StopRequest

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Parse, train, and report where the weights are. Return the exit code."""
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda train", description=first_line(__doc__))
    parser.add_argument("--config", action="config", help="recipe, a YAML file; also as the first plain argument")
    parser.add_argument("--run", type=Path, default=None, help="folder for checkpoint, logs, scores, weights, report")
    parser.add_argument("--resume", type=str, default="false", help="auto: go on from the checkpoint if there is one")
    parser.add_argument("--check", action="store_true", help="try everything once, estimate the cost, write no run")
    parser.add_argument(
        "--allow-random-backbone", action="store_true", help="let the encoder start from random weights"
    )
    argv = [part for word in argv for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    if argv and not argv[0].startswith("-"):
        argv = ["--config", *argv]
    add_recipe_arguments(parser, several_sources=_check_recipe_files(argv))
    options = parse(parser, argv)
    recipe = _recipe(parser.instantiate(options), options.allow_random_backbone)
    if options.check:
        with ProgressPrinter() as printer:
            print(estimate(recipe, printer.say, printer.counter("label files counted")))
        return 0
    if options.run is None:
        raise RecipeError("give the folder of the run with --run FOLDER (or --check to try without one)")
    if options.resume.lower() not in ("auto", "true", "false"):
        raise RecipeError(f"--resume is auto, true or false, not '{options.resume}'")
    return _train(recipe, options.run, resume=options.resume.lower() != "false")


def _check_folder(run: Path) -> None:
    """Refuse a folder with a result of another kind: the call that replaces that one would take the run with it."""
    found = next((name for name in (MANIFEST_NAME, PACK_NAME, MASKS_NAME) if (run / name).is_file()), None)
    if found and not (run / CHECKPOINT_NAME).exists():
        raise RecipeError(f"run folder '{run}' holds a result of another command ({found}); give another folder")


def _train(recipe: Recipe, run: Path, resume: bool) -> int:
    _check_folder(run)
    main_process = int(os.environ.get("RANK", 0)) == 0
    with ProgressPrinter() as printer:
        watch = Watch(should_stop=StopRequest(training=True))
        if main_process:
            count = printer.counter("label files counted")
            watch = replace(watch, progress=printer.step, say=printer.say, count=count, draw=_draw)
        report = main_process
        try:
            weights = fit(recipe, run, resume=resume, watch=watch)
        except RecipeError:
            report = False  # nothing was trained, and the run may be that of another process
            raise
        finally:
            if report and (run / RECIPE_NAME).exists():
                _write_report(run, printer.say)
    if not main_process:
        return 0
    if weights is None:
        print(f"\nstopped; go on with: hrda train {run / RECIPE_NAME} --run {run} --resume auto")
        return 130
    print(f"\nweights: {weights}\nreport: {run / 'report.html'}\nnext: hrda export {run} --out models/{recipe.name}")
    return 0


def _recipe(instantiated: Any, allow_random_backbone: bool) -> Recipe:
    values = {key: value for key, value in vars(instantiated).items() if key in Recipe.__dataclass_fields__}
    if allow_random_backbone:
        values["model"] = replace(values["model"], imagenet=False, allow_random_backbone=True)
    return Recipe(**values)


def _check_recipe_files(argv: list[str]) -> bool:
    """Refuse unknown keys with a proposal, before the parser does it without one; say whether sources are a list."""
    several = False
    for flag, path in pairwise(argv):
        if flag == "--config" and Path(path).is_file():
            try:
                values = read_yaml_file(Path(path))
            except (OSError, TextError) as error:
                raise RecipeError(f"recipe '{path}' cannot be read ({error})") from None
            if not isinstance(values, Mapping):
                raise RecipeError(f"recipe '{path}' holds no keys; expected YAML like config/recipes/*.yaml")
            check_keys(values)
            several = isinstance(values.get("source"), list)
            if several and (single := next((word for word in argv if word.startswith("--source.")), None)):
                raise RecipeError(
                    f"option '{single}' is for a recipe with one source, but '{path}' has a list of "
                    f"{len(values['source'])}; change it there"
                )
    return several


def _draw(pictures: Mapping[str, Any], recipe: Recipe) -> Any:
    from hrda_core.report.panels import draw_panel
    from hrda_core.trainer.methods import image_space
    from hrda_core.trainer.spaces import recipe_space

    space = image_space(recipe)
    arrays = {name: value.float().numpy() for name, value in pictures.items()}
    return draw_panel(arrays, recipe_space(recipe), space.mean, space.std)


def _write_report(run: Path, say: Callable[[str], None]) -> None:
    from hrda_core.errors import HrdaError
    from hrda_core.report.run_page import write_report

    try:
        write_report(run)
    except (HrdaError, OSError) as error:
        say(f"no report was written: {error}")
