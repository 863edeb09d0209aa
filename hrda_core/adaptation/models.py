"""The two candidates that an adaptation makes, as bundles: with new BatchNorm statistics, and trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hrda_core.adaptation.candidates import export_candidate
from hrda_core.adaptation.frames import Frames
from hrda_core.adaptation.instant import adapt_instantly
from hrda_core.adaptation.request import Request
from hrda_core.inference.bundle import Bundle
from hrda_core.inference.network import load_network
from hrda_core.models.hrda import HRDA
from hrda_core.models.segmenter import Segmenter
from hrda_core.trainer.loading import load_network as load_trained
from hrda_core.trainer.loading import load_recipe

__all__ = ["adapted_bundle", "instant_bundle"]

_INSTANT_FRAMES = 48


def instant_bundle(request: Request, given: Bundle, frames: Frames, folder: Path, say: Callable[[str], None]) -> Bundle:
    """The given model with statistics of the frames, written to `folder` once.

    Raises:
        DataError: too few frames of one size.
    """
    if folder.is_dir():
        return Bundle.open(folder)
    network = load_network(given)
    assert isinstance(network, HRDA | Segmenter)
    layers = adapt_instantly(network, given, frames.adapt, _INSTANT_FRAMES)
    say(f"{layers} BatchNorm layers have statistics of the recording")
    return export_candidate(
        network,
        given,
        folder,
        frames.adapt.load(0),
        name=f"{given.name}_instant",
        overrides=given.manifest.get("overrides", {}),
        provenance=_provenance(request, given, frames) | {"method": f"BatchNorm statistics of {layers} layers"},
        say=_silent,
    )


def adapted_bundle(request: Request, given: Bundle, run: Path, frames: Frames, folder: Path) -> Bundle:
    """The moving average of a finished run, written to `folder` once.

    It is 3 to 5 points ahead of the student after short runs (docs/adaptation_results.md).
    """
    if folder.is_dir():
        return Bundle.open(folder)
    recipe = load_recipe(run)
    trained = {
        "method": recipe.method,
        "source_data": recipe.source.name,
        "source_licence": recipe.source.licence,
        "exported_network": "teacher",
        "iterations": recipe.iterations,
        "deviations": "; ".join(recipe.paper),
        "settings": recipe.to_dict(),
    }
    return export_candidate(
        load_trained(run, "teacher"),
        given,
        folder,
        frames.adapt.load(0),
        name=f"{given.name}_adapted",
        overrides=recipe.model.overrides,
        provenance=_provenance(request, given, frames) | trained,
        say=_silent,
    )


def _provenance(request: Request, given: Bundle, frames: Frames) -> dict[str, Any]:
    """The given model's, without its scores, and what it is adapted to."""
    before = dict(given.manifest.get("provenance", {}))
    for key in ("scores", "adaptation"):
        before.pop(key, None)
    return before | {
        "started_from": given.name,
        "target_data": f"{len(frames.adapt)} frames of {', '.join(bag.name for bag in request.bags)}: no labels",
        "target_licence": "as the recording",
        "seed": request.seed,
    }


def _silent(text: str) -> None:
    """Exporting a candidate is no news."""
