"""How often each class is labelled in the source of a run: what the logit adjustment of its recipe starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hrda_core.data.datasets.class_statistics import ClassStatistics
from hrda_core.errors import DataError, TextError
from hrda_core.models.class_bias import ClassBias, class_bias
from hrda_core.trainer.journal import ENVIRONMENT_NAME
from hrda_core.trainer.recipe import Recipe
from hrda_core.untrusted_text import read_json_file

__all__ = ["class_shares", "run_bias", "shares_entry"]

_ENTRY = "class_shares"


def class_shares(classes: int, parts: Iterable[tuple[float, ClassStatistics]]) -> tuple[float, ...]:
    """Return the share of each class of the labelled pixels, 0..1, with the eight digits that a run keeps.

    Args:
        parts: share of the draws and counted labels of each source; without any, all shares are 0.
    """
    whole = np.zeros(classes)
    for share, statistics in parts:
        pixels = statistics.counts.sum(axis=0)
        whole += share * pixels / max(1, pixels.sum())
    return tuple(round(float(value), 8) for value in whole / (whole.sum() or 1.0))


def shares_entry(shares: Sequence[float]) -> Mapping[str, Any]:
    """Return the entry of `environment.json`: the data may be elsewhere when the run is exported."""
    return {_ENTRY: list(shares)}


def run_bias(run: Path, recipe: Recipe) -> ClassBias:
    """Return what the recipe's logit adjustment adds to the logits of a run's networks.

    Raises:
        DataError: the recipe has one, and the run folder does not say how often the classes are labelled.
    """
    if not recipe.logit_adjustment:
        return ()
    path = run / ENVIRONMENT_NAME
    try:
        return class_bias(recipe.logit_adjustment, [float(value) for value in read_json_file(path)[_ENTRY]])
    except (OSError, TextError, ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"'{path}' does not say how often the classes are labelled ({_ENTRY}), which the logit_adjustment of the "
            f"recipe needs; resume the run to write it"
        ) from error
