"""`hrda export RUN --out BUNDLE`: make a model bundle of a finished training run.

hrda export runs/hrda_lite --out models/hrda_lite
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from hrda_core.data.datasets import IMAGE_SUFFIXES, read_image
from hrda_core.errors import DataError, require

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Parse, export, say what agrees with PyTorch. Returns the exit code."""
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda export", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished training run")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder; a bundle there is replaced")
    parser.add_argument("--sample", type=Path, default=None, help="image for the parity check; default: a source image")
    parser.add_argument("--plan", type=str, default="tiles", help="default window plan of the bundle")
    parser.add_argument(
        "--long_side", type=int, default=640, help="larger images are shrunk to this first, pixels; 0 = never"
    )
    options = parser.parse_args(argv)
    _export(options.run, options.out, options.sample, options.plan, options.long_side)
    return 0


def _export(run: Path, out: Path, sample: Path | None, plan: str, long_side: int) -> None:
    from safetensors.torch import load_file

    from hrda_core.inference.export import ExportSpec, export_bundle
    from hrda_core.labels import CITYSCAPES19
    from hrda_core.models import create_model
    from hrda_core.models.presets import resolve_preset
    from hrda_core.trainer.loop import RECIPE_NAME
    from hrda_core.trainer.state import WEIGHTS_NAME

    recipe = _read_recipe(run / RECIPE_NAME)
    if not (run / WEIGHTS_NAME).is_file():
        raise DataError(f"run '{run}' has no {WEIGHTS_NAME}: it is not finished; resume it")
    preset, overrides = recipe["model"]["preset"], recipe["model"].get("overrides", {})
    model = create_model(preset, num_classes=len(CITYSCAPES19), **overrides)
    model.load_state_dict(load_file(run / WEIGHTS_NAME))
    network = resolve_preset(preset, **overrides)
    spec = ExportSpec(
        name=recipe["name"],
        preset=preset,
        label_space=CITYSCAPES19,
        mean=network.mean,
        std=network.std,
        long_side=long_side,
        overrides=overrides,
        grid=(2, 2),
        default_plan=plan,
        provenance=_provenance(recipe),
    )
    reports = export_bundle(model, spec, out, _sample(sample, recipe), say=print)  # type: ignore[arg-type]
    for name, report in reports.items():
        agreement = f"{100 * report.labels:.2f} % of pixels equal to PyTorch"
        print(f"{name}: {agreement}, confidence within {report.confidence}/255")
    print(f"bundle: {out}")


def _read_recipe(path: Path) -> dict[str, Any]:
    try:
        recipe: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise DataError(f"'{path.parent}' is not the folder of a training run: it has no {path.name}") from None
    return recipe


def _provenance(recipe: dict[str, Any]) -> dict[str, Any]:
    source = recipe["source"]
    return {
        "recipe": recipe["name"],
        "source_data": source["name"],
        "source_licence": source["licence"],
        "encoder_weights": "ImageNet" if recipe["model"]["imagenet"] else "random",
        "started_from": recipe["model"].get("weights") or "",
        "iterations": recipe["iterations"],
        "seed": recipe["seed"],
        "licence": "Apache-2.0",
        "limits": recipe.get("limits") or "Not stated.",
        "settings": recipe,
    }


def _sample(path: Path | None, recipe: dict[str, Any]) -> np.ndarray:
    if path is None:
        folder = Path(recipe["source"]["images"])
        path = next((p for p in sorted(folder.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES), None)
        if path is None:
            raise DataError(f"no image below '{folder}' for the parity check; name one with --sample IMAGE")
    return read_image(path)
