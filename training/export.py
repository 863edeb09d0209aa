"""`hrda export RUN --out BUNDLE`: make a bundle of a training run, or add a graph for one image size to a bundle.

hrda export runs/hrda_lite --out models/hrda_lite                        # the network that the run gave out
hrda export runs/adapted --network teacher --out models/adapted          # the moving average of a self-training run
hrda export models/mine --size 480x640 --plan tiles --precision fp16     # a graph for one camera, in the bundle
hrda export models/mine --size 480x640 --precision fp16 --engine         # and its TensorRT engine, on the robot
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hrda_core.data.image_files import read_image
from hrda_core.errors import DataError, RecipeError, require
from hrda_core.window_plan import parse_pair

from .arguments import parse
from .export_static import add_graph, is_bundle

if TYPE_CHECKING:
    from hrda_core.trainer.recipe import Recipe

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Parse, export, say what agrees with PyTorch. Returns the exit code."""
    options = parse(_parser(), argv)
    _check_together(options)
    if not is_bundle(options.run):
        _export_run(options)
        if not options.size:
            return 0
        options.run = options.out
        options.out = None
    add_graph(options)
    return 0


def _parser() -> Any:
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda export", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("run", type=Path, help="folder of a finished training run, or a bundle")
    add(
        "--out",
        type=Path,
        default=None,
        help="bundle folder, needed for a run; of a bundle: a copy for the graph",
    )
    add("--network", type=str, default="student", help="of a run: student or teacher; the paper's is the student")
    add("--sample", type=Path, default=None, help="of a run: image for the parity check; default: one of the run")
    add("--plan", type=str, default="", help="window plan: tiles, overlap, topk, context; whole for others")
    add("--long_side", type=int, default=None, help="shrink larger images to this first, pixels; 0 = never (run: 640)")
    add("--size", type=str, default="", help="camera image, HEIGHTxWIDTH pixels: write a graph for this size alone")
    add("--precision", type=str, default="fp32", help="of that graph: fp32, fp16, int8")
    add(
        "--grid",
        type=str,
        default="",
        help="rows x columns of detail tiles, for example 2x3; default: the bundle's, or by the encoder",
    )
    add("--overlap", type=int, default=0, help="pixels that neighbouring tiles share, feathered")
    add("--keep", type=int, default=None, help="topk: tiles that run for one image; default: half")
    add("--opset", type=int, default=20, help="ONNX operator set; 17 for TensorRT 8.6, 20 for 10.3 and newer")
    add("--images", type=Path, default=None, help="image or folder for the parity check; default: the bundle's samples")
    add("--calibration", type=Path, default=None, help="int8: images or recording of the target domain, 8 or more")
    add("--int8_for", type=str, default="tensorrt", help="int8: runtime that the graph is written for: tensorrt, onnx")
    add("--engine", action="store_true", help="build the TensorRT engine of the graph here")
    add("--rebuild", action="store_true", help="build the engine although there is one")
    add(
        "--workspace_mib",
        type=int,
        default=0,
        help="GPU memory for the engine's builder; 0 = TensorRT's default",
    )
    add("--json", type=Path, default=None, help="write what was exported to this file")
    return parser


def _check_together(options: Any) -> None:
    """Options that belong together."""
    if options.size:
        return
    if is_bundle(options.run) and not options.engine:
        raise RecipeError(
            f"'{options.run}' is a bundle already; say which graph to add with --size HEIGHTxWIDTH, for example "
            f"--size 480x640, or --engine to build the engine of one that it has"
        )
    given = {
        "grid": is_bundle(options.run) and options.grid,
        "overlap": options.overlap,
        "keep": options.keep,
        "calibration": options.calibration,
    }
    lonely = [f"--{name}" for name, value in given.items() if value]
    if lonely or (options.precision != "fp32" and not options.engine):
        what = ", ".join(lonely) or "--precision"
        raise RecipeError(f"{what} is for a graph of one image size: add --size HEIGHTxWIDTH")


def _export_run(options: Any) -> None:
    from hrda_core.deploy.export import ExportSpec, export_bundle
    from hrda_core.trainer.loading import load_network, load_recipe
    from hrda_core.trainer.state import WEIGHTS_NAME

    run, network = options.run, options.network
    if options.out is None:
        raise RecipeError(f"--out is missing: the folder of the bundle that is made of run '{run}'")
    recipe = load_recipe(run)
    if not (run / WEIGHTS_NAME).is_file():
        raise DataError(f"run '{run}' has no {WEIGHTS_NAME}: it is not finished; resume it")
    model = load_network(run, network)
    # With --size the plan is that of the further graph.
    plan = "" if options.size else options.plan
    spec = ExportSpec(
        name=recipe.name,
        preset=recipe.model.preset,
        overrides=recipe.model.overrides,
        long_side=640 if options.long_side is None else options.long_side,
        provenance=_provenance(recipe, network),
        grid=parse_pair("--grid", options.grid, "2x2") if options.grid else None,
        default_plan=plan,
    )
    sample = read_image(options.sample) if options.sample else _sample(recipe)
    for name, report in export_bundle(model, spec, options.out, sample, say=print).items():
        agreement = f"{100 * report.labels:.2f} % of pixels equal to PyTorch"
        print(f"{name}: {agreement}, confidence within {report.confidence}/255")
    print(f"bundle: {options.out}")


def _provenance(recipe: Recipe, network: str) -> dict[str, Any]:
    """What the model card says; empty entries are left out of it."""
    return recipe.provenance(network) | {
        "encoder_weights": "ImageNet" if recipe.model.imagenet or recipe.model.backbone else "random",
        "started_from": str(recipe.model.weights or ""),
        "licence": "Apache-2.0, as far as the licences of the data leave it to us",
        "limits": recipe.limits or "Not stated.",
    }


def _sample(recipe: Recipe) -> npt.NDArray[np.uint8]:
    """An image of the domain that the model is for."""
    from hrda_core.trainer.sources import open_pairs, open_target

    if recipe.target is not None:
        return open_target(recipe.target).load(0)
    return open_pairs(recipe.source).load(0)[0]
