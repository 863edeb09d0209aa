"""Keeps the weights of the moment with the best score so far, beside the last ones (`keep_best` of a recipe)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hrda_core.errors import DataError, RecipeError, TextError, proposal, reason_of
from hrda_core.labels import ClassGroups
from hrda_core.plain_files import check_file
from hrda_core.trainer.checkpoint import Checkpoint, save_checkpoint
from hrda_core.trainer.recipe import Recipe, score_name
from hrda_core.trainer.state import State, shipped_weights
from hrda_core.untrusted_text import parse_json

__all__ = ["BEST_NAME", "best_of", "check_score", "keep_best"]

SCORES = ("mean_iou", "boundary_f", "pixel_accuracy")
"""Scores of a whole validation set; the others are the IoU of its classes."""

BEST_NAME = "best.safetensors"
"""In the folder of a run: its networks at the best score, without optimiser."""


def keep_best(state: State, recipe: Recipe, run: Path, scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Write the networks if the score that the recipe names is higher than before; return a sentence if so.

    Args:
        scores: the student's scores by validation set, as in `evaluations.jsonl`.

    Raises:
        DataError: the file cannot be written.
    """
    if not recipe.keep_best:
        return ""
    where, name = score_name(recipe.keep_best)
    value = _value(scores[where], name)
    before = best_of(run)
    # A run that goes on from an earlier checkpoint takes the same steps again; its best may lie ahead of it.
    if value is None or (before is not None and before["score"] == recipe.keep_best and before["value"] >= value):
        return ""
    tensors = {f"student/{key}": tensor for key, tensor in shipped_weights(state, recipe).items()}
    if recipe.method == "self_training" and state.networks.teacher is not None:
        tensors |= {f"teacher/{key}": tensor for key, tensor in state.networks.teacher.state_dict().items()}
    values = {"iteration": state.iteration, "score": recipe.keep_best, "value": value}
    save_checkpoint(run / BEST_NAME, Checkpoint(tensors, values))
    return f"best {recipe.keep_best} so far: {100 * value:.1f} %, kept in {BEST_NAME}"


def check_score(recipe: Recipe, validation: str, groups: ClassGroups) -> None:
    """Refuse a score that the recipe's `keep_best` names but the validation set does not have.

    Raises:
        RecipeError: it has no such score; the nearest one is proposed.
    """
    if not recipe.keep_best:
        return
    where, name = score_name(recipe.keep_best)
    known = (*SCORES, *groups.names)
    if where == validation and name not in known:
        raise RecipeError(f"keep_best: '{validation}' has no score '{name}'; {proposal(name, known)}")


def best_of(run: Path) -> dict[str, Any] | None:
    """Return `iteration`, `score` (its name) and `value` (0..1) of what a run has kept; None without.

    Raises:
        DataError: the file is damaged.
    """
    path = run / BEST_NAME
    if not path.exists():
        return None
    try:
        check_file(path)
        with safe_open(path, framework="pt") as file:
            values = parse_json((file.metadata() or {})["values"])
            kinds: dict[str, Any] = {"iteration": int, "score": str, "value": float}
            return {name: kind(values[name]) for name, kind in kinds.items()}
    except (OSError, SafetensorError, TextError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"'{path}' cannot be read ({reason_of(error)}); remove it") from error


def _value(scores: Mapping[str, Any], name: str) -> float | None:
    value = scores[name] if name in SCORES else scores["iou"][name]
    return None if value is None or math.isnan(value) else float(value)
