"""`hrda export RUN --out BUNDLE`: make a model bundle of a training run.

hrda export runs/hrda_lite --out models/hrda_lite                        # the network that the run gave out
hrda export runs/adapted --network teacher --out models/adapted          # the moving average of a self-training run
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hrda_core.data.datasets import read_image
from hrda_core.errors import DataError, require
from hrda_training.arguments import parse

if TYPE_CHECKING:
    from hrda_core.trainer.recipe import Recipe

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Parse, export, say what agrees with PyTorch. Returns the exit code."""
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda export", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished training run")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder; a bundle there is replaced")
    parser.add_argument("--network", type=str, default="student", help="student or teacher; the paper's is the student")
    parser.add_argument("--sample", type=Path, default=None, help="image for the parity check; default: one of the run")
    parser.add_argument("--plan", type=str, default="", help="window plan; default: tiles for HRDA, whole for others")
    parser.add_argument(
        "--long_side", type=int, default=640, help="larger images are shrunk to this first, pixels; 0 = never"
    )
    options = parse(parser, argv)
    _export(options.run, options.out, options.network, options.sample, options.plan, options.long_side)
    return 0


def _export(run: Path, out: Path, network: str, sample: Path | None, plan: str, long_side: int) -> None:
    from hrda_core.inference.export import ExportSpec, export_bundle
    from hrda_core.labels import CITYSCAPES19
    from hrda_core.models import HRDA
    from hrda_core.models.presets import resolve_preset
    from hrda_core.trainer.loading import load_network, load_recipe
    from hrda_core.trainer.state import WEIGHTS_NAME

    recipe = load_recipe(run)
    if not (run / WEIGHTS_NAME).is_file():
        raise DataError(f"run '{run}' has no {WEIGHTS_NAME}: it is not finished; resume it")
    model = load_network(run, network)
    config = resolve_preset(recipe.model.preset, **recipe.model.overrides)
    spec = ExportSpec(
        name=recipe.name,
        preset=recipe.model.preset,
        label_space=CITYSCAPES19,
        mean=config.mean,
        std=config.std,
        long_side=long_side,
        overrides=recipe.model.overrides,
        grid=(2, 2),
        default_plan=plan or ("tiles" if isinstance(model, HRDA) else "whole"),
        provenance=_provenance(recipe, network),
    )
    reports = export_bundle(model, spec, out, read_image(sample) if sample else _sample(recipe), say=print)
    for name, report in reports.items():
        agreement = f"{100 * report.labels:.2f} % of pixels equal to PyTorch"
        print(f"{name}: {agreement}, confidence within {report.confidence}/255")
    print(f"bundle: {out}")


def _provenance(recipe: Recipe, network: str) -> dict[str, Any]:
    """What the model card says; empty entries are left out of it."""
    target = recipe.target
    return {
        "recipe": recipe.name,
        "method": recipe.method,
        "source_data": recipe.source.name,
        "source_licence": recipe.source.licence,
        "target_data": "" if target is None else f"{target.name}: images alone, no labels",
        "target_licence": "" if target is None else target.licence,
        "encoder_weights": "ImageNet" if recipe.model.imagenet or recipe.model.backbone else "random",
        "started_from": str(recipe.model.weights or ""),
        "exported_network": network,
        "iterations": recipe.iterations,
        "seed": recipe.seed,
        "deviations": "; ".join(recipe.paper),
        "licence": "Apache-2.0, as far as the licences of the data leave it to us",
        "limits": recipe.limits or "Not stated.",
        "settings": recipe.to_dict(),
    }


def _sample(recipe: Recipe) -> npt.NDArray[np.uint8]:
    """An image of the domain that the model is for."""
    from hrda_core.trainer.sources import open_pairs, open_target

    if recipe.target is not None:
        return open_target(recipe.target).load(0)
    return open_pairs(recipe.source).load(0)[0]
