"""Reads what a run left behind: its recipe and its networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hrda_core.errors import DataError, RecipeError, TextError, first_misfit, require
from hrda_core.models import HRDA, Segmenter, create_model
from hrda_core.models.class_bias import ClassBias, bias_in, with_bias
from hrda_core.models.finite_weights import check_finite
from hrda_core.trainer.best import BEST_NAME
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, load_checkpoint
from hrda_core.trainer.class_shares import run_bias
from hrda_core.trainer.recipe import Recipe, check_keys
from hrda_core.trainer.recipe_data import SourceConfig
from hrda_core.trainer.spaces import recipe_space
from hrda_core.trainer.state import WEIGHTS_NAME
from hrda_core.untrusted_text import read_yaml_file

__all__ = ["NETWORKS", "RECIPE_NAME", "add_recipe_arguments", "load_network", "load_recipe"]

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
        values: Any = read_yaml_file(path)
    except OSError:
        raise DataError(f"'{run}' is not the folder of a training run: it has no readable {RECIPE_NAME}") from None
    except TextError as error:
        raise DataError(f"'{path}' is damaged ({error})") from error
    model = values.get("model") if isinstance(values, dict) else None
    if not isinstance(model, dict) or "preset" not in model:
        raise DataError(f"'{path}' names no model.preset; give the folder of a training run")
    _as_of_today(values)
    check_keys(values)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    add_recipe_arguments(parser, several_sources=isinstance(values.get("source"), list))
    try:
        return Recipe(**vars(parser.instantiate(parser.parse_object(values))))
    except jsonargparse.ArgumentError as error:
        raise DataError(f"'{path}' is damaged ({str(error).splitlines()[0]})") from error


def add_recipe_arguments(parser: Any, *, several_sources: bool) -> None:
    """Add the keys of a recipe to a parser of jsonargparse.

    Args:
        several_sources: whether `source` is a list. A parser that took both forms would have no option for the keys of
            one source, and no plain sentence for a wrong value.
    """
    parser.add_class_arguments(Recipe, skip={"source"})
    if several_sources:
        parser.add_argument("--source", type=list[SourceConfig], required=True)
    else:
        parser.add_class_arguments(SourceConfig, "source")


def _as_of_today(values: dict[str, Any]) -> None:
    """Bring the recipe of a run of an earlier release to today's form: further sources stood in `source.more`."""
    source = values.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("more"), list):
        return
    sampling = {key: value for key, value in source.items() if key.startswith("rcs_")}
    parts = [{**sampling, **part} for part in (source, *source["more"])]
    for part in parts:
        part.pop("more", None)
        part["share"] = part.pop("repeat", 1)
    values["source"] = parts if len(parts) > 1 else parts[0]


def load_network(run: Path, network: str = "student", which: str = "last") -> HRDA | Segmenter:
    """Load a network of a run in eval mode, on the CPU, with the logit adjustment of its recipe.

    Args:
        network: `student` = the exported weights of a finished run (those that `hrda export` takes), or the student of
            the checkpoint while the run is not finished; `teacher` = the moving average in the checkpoint.
        which: `last`; `best` = the networks that `keep_best` of the recipe kept.

    Raises:
        RecipeError: `network` has another value, or the run has kept no best one.
        DataError: there is no such network in the run, or a file is missing, damaged, of another network, or holds
            values that are not finite.
    """
    if network not in NETWORKS:
        raise RecipeError(f"network '{network}' is not known; choose one of {', '.join(NETWORKS)}")
    recipe = load_recipe(run)
    built = create_model(recipe.model.preset, num_classes=len(recipe_space(recipe)), **recipe.model.overrides)
    weights, bias = run / WEIGHTS_NAME, run_bias(run, recipe)
    if which == "last" and network == "student" and weights.is_file():
        tensors = _shipped(built, weights, bias)
    else:  # what a run keeps for itself is as it was trained
        tensors = with_bias(built, _best(run, network) if which == "best" else _of_checkpoint(run, network), bias)
    try:
        built.load_state_dict(tensors)
    except RuntimeError as error:
        reason = first_misfit(error)
        raise DataError(f"the weights in '{run}' do not fit the network of its {RECIPE_NAME} ({reason})") from error
    check_finite(tensors, f"the weights in '{run}' have", "train again with a lower optim.lr", DataError)
    return built.eval()


def _shipped(built: HRDA | Segmenter, weights: Path, bias: ClassBias) -> dict[str, Tensor]:
    """The exported weights with `bias`, also where they were written with another strength of the adjustment."""
    try:
        tensors, held = load_file(weights), bias_in(weights)
    except (OSError, SafetensorError) as error:
        raise DataError(f"weights '{weights}' cannot be read ({error}); resume the run to write them anew") from error
    if held == bias:
        return tensors
    return with_bias(built, with_bias(built, tensors, tuple(-value for value in held)), bias)


def _of_checkpoint(run: Path, network: str) -> dict[str, Tensor]:
    return _below(run / CHECKPOINT_NAME, network, f"the checkpoint of run '{run}'")


def _best(run: Path, network: str) -> dict[str, Tensor]:
    if not (run / BEST_NAME).is_file():
        raise RecipeError(
            f"run '{run}' has kept no best networks; they are kept where its recipe has keep_best: VALIDATION/SCORE"
        )
    return _below(run / BEST_NAME, network, f"'{run / BEST_NAME}'")


def _below(path: Path, network: str, what: str) -> dict[str, Tensor]:
    saved = load_checkpoint(path)
    tensors = saved.below(network)
    if not tensors:
        there = ", ".join(name for name in NETWORKS if saved.below(name)) or "none"
        raise DataError(f"{what} has no {network}; networks in it: {there}")
    return tensors
