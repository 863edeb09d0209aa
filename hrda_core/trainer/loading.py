"""Reads what a run left behind: its recipe and its networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hrda_core.errors import DataError, RecipeError, first_misfit, require
from hrda_core.labels import CITYSCAPES19
from hrda_core.models import HRDA, Segmenter, create_model
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, load_checkpoint
from hrda_core.trainer.recipe import Recipe, check_keys
from hrda_core.trainer.state import WEIGHTS_NAME

__all__ = ["NETWORKS", "RECIPE_NAME", "load_network", "load_recipe"]

RECIPE_NAME = "recipe.yaml"
NETWORKS = ("student", "teacher")


def load_recipe(run: Path) -> Recipe:
    """Read the complete recipe of a run.

    Raises:
        DataError: the folder has none, or it is damaged.
        RecipeError: it has keys that this release does not know.
        MissingPackageError: jsonargparse is not installed.
    """
    jsonargparse = require("jsonargparse", "train")
    path = run / RECIPE_NAME
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise DataError(f"'{run}' is not the folder of a training run: it has no readable {RECIPE_NAME}") from None
    except yaml.YAMLError as error:
        raise DataError(f"'{path}' is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(values, dict) or "preset" not in (values.get("model") or {}):
        raise DataError(f"'{path}' names no model.preset; give the folder of a training run")
    check_keys(values)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Recipe)
    try:
        return Recipe(**vars(parser.instantiate(parser.parse_object(values))))
    except jsonargparse.ArgumentError as error:
        raise DataError(f"'{path}' is damaged ({str(error).splitlines()[0]})") from error


def load_network(run: Path, network: str = "student") -> HRDA | Segmenter:
    """Load a network of a run in eval mode, on the CPU.

    Args:
        network: `student` = the exported weights of a finished run (those that `hrda export` takes), or the student of
            the checkpoint while the run is not finished; `teacher` = the moving average in the checkpoint.

    Raises:
        RecipeError: `network` has another value.
        DataError: there is no such network in the run, or a file is missing, damaged, or of another network.
    """
    if network not in NETWORKS:
        raise RecipeError(f"network '{network}' is not known; choose one of {', '.join(NETWORKS)}")
    model = load_recipe(run).model
    built = create_model(model.preset, num_classes=len(CITYSCAPES19), **model.overrides)
    try:
        built.load_state_dict(_tensors(run, network))
    except RuntimeError as error:
        reason = first_misfit(error)
        raise DataError(f"the weights in '{run}' do not fit the network of its {RECIPE_NAME} ({reason})") from error
    return built.eval()


def _tensors(run: Path, network: str) -> dict[str, Tensor]:
    weights = run / WEIGHTS_NAME
    if network == "student" and weights.is_file():
        try:
            return load_file(weights)
        except (OSError, SafetensorError) as error:
            raise DataError(
                f"weights '{weights}' cannot be read ({error}); resume the run to write them anew"
            ) from error
    saved = load_checkpoint(run / CHECKPOINT_NAME)
    tensors = saved.below(network)
    if not tensors:
        there = ", ".join(name for name in NETWORKS if saved.below(name)) or "none"
        raise DataError(f"the checkpoint of run '{run}' has no {network}; networks in it: {there}")
    return tensors
