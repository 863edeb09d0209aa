"""`hrda export RUN --out BUNDLE`: make a bundle of a training run, or add a graph for one image size to a bundle.

hrda export runs/hrda_lite --out models/hrda_lite                        # the exported network of the run
hrda export runs/adapted --network teacher --out models/adapted          # the moving average of a self-training run
hrda export models/mine --size 480x640 --plan tiles --precision fp16     # a graph for one camera, in the bundle
hrda export models/mine --size 480x640 --precision fp16 --engine         # and its TensorRT engine, on the robot
hrda export hrda_lite --size 480x640                 # of the model that came with hrda_ros: a copy of yours gets it
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from hrda_core.data.image_files import read_image
from hrda_core.errors import DataError, RecipeError
from hrda_core.inference.bundle import MANIFEST_NAME

from .arguments import model_folder, pair, parse_request
from .export_static import add_graph

if TYPE_CHECKING:
    from hrda_core.trainer.recipe import Recipe

__all__ = ["ExportRequest", "main"]


@dataclass(frozen=True)
class ExportRequest:
    """The thing to export: a training run, a graph for one image size, or the engine of such a graph.

    Attributes:
        run: folder of a finished training run, or a bundle or its name ('hrda models')
        out: bundle folder, needed for a run; with a bundle: a copy of it that gets the graph; default: the bundle
            itself, or for one that came with hrda_ros its copy in $HRDA_MODELS
        network: network of a run; the paper's is the student
        sample: for a run, image for the parity check; default: one of the run
        plan: window plan: tiles, overlap, topk, context; whole for others
        long_side: shrink larger images to this first, pixels; 0 = never (run: 640)
        size: camera image, HEIGHTxWIDTH pixels: write a graph for this size alone
        precision: precision of that graph: fp32, fp16, int8
        grid: rows x columns of detail tiles, for example 2x3; default: the bundle's, or by the encoder
        overlap: pixels that neighbouring tiles share, feathered
        keep: for topk, number of tiles that run for one image; default: half
        opset: ONNX operator set; 17 for TensorRT 8.6, 20 for 10.3 and newer
        images: image or folder for the parity check; default: the bundle's samples
        calibration: for int8, images or recording of the target domain, 8 or more
        int8_for: for int8, runtime that the graph is written for: tensorrt, onnx
        engine: build the TensorRT engine of the graph here
        rebuild: build the engine although there is one
        workspace_mib: GPU memory for the engine's builder; 0 = TensorRT's default
    """

    run: Path
    out: Path | None = None
    network: Literal["student", "teacher"] = "student"
    sample: Path | None = None
    plan: str = ""
    long_side: int | None = None
    size: tuple[int, int] | None = None
    precision: str = "fp32"
    grid: tuple[int, int] | None = None
    overlap: int = 0
    keep: int | None = None
    opset: int = 20
    images: Path | None = None
    calibration: Path | None = None
    int8_for: str = "tensorrt"
    engine: bool = False
    rebuild: bool = False
    workspace_mib: int = 0

    def __post_init__(self) -> None:
        if self.out is None and not self.of_bundle:
            raise RecipeError(f"--out is missing: the folder of the bundle that is made of run '{self.run}'")
        if self.size is not None:
            return
        if self.of_bundle and not self.engine:
            raise RecipeError(
                f"'{self.run}' is a bundle already; say which graph to add with --size HEIGHTxWIDTH, for example "
                f"--size 480x640, or --engine to build the engine of one that it has"
            )
        given = {
            "grid": self.of_bundle and self.grid,
            "overlap": self.overlap,
            "keep": self.keep,
            "calibration": self.calibration,
        }
        lonely = [f"--{name}" for name, value in given.items() if value]
        if lonely or (self.precision != "fp32" and not self.engine):
            what = ", ".join(lonely) or "--precision"
            raise RecipeError(f"{what} is for a graph of one image size: add --size HEIGHTxWIDTH")

    @property
    def of_bundle(self) -> bool:
        """Whether a bundle is given, not a training run."""
        return (self.run / MANIFEST_NAME).is_file()


def main(argv: list[str]) -> int:
    """Parse, export, and report the agreement with PyTorch. Return the exit code."""
    read = {"run": model_folder, "size": pair("--size"), "grid": pair("--grid", "2x3")}
    request, json = parse_request(ExportRequest, argv, verb="export", about=__doc__, positional="run", read=read)
    if request.of_bundle:
        add_graph(request, json)
        return 0
    assert request.out is not None
    _export_run(request, request.out)
    if request.size:
        add_graph(replace(request, run=request.out), json)
    return 0


def _export_run(request: ExportRequest, out: Path) -> None:
    from hrda_core.deploy.export import ExportSpec, export_bundle
    from hrda_core.trainer.loading import load_network, load_recipe
    from hrda_core.trainer.state import WEIGHTS_NAME

    run, network = request.run, request.network
    recipe = load_recipe(run)
    if not (run / WEIGHTS_NAME).is_file():
        raise DataError(f"run '{run}' has no {WEIGHTS_NAME}: it is not finished; resume it")
    model = load_network(run, network)
    # With --size the plan is that of the further graph.
    plan = "" if request.size else request.plan
    spec = ExportSpec(
        name=recipe.name,
        preset=recipe.model.preset,
        overrides=recipe.model.overrides,
        long_side=640 if request.long_side is None else request.long_side,
        provenance=_provenance(recipe, network),
        grid=request.grid,
        default_plan=plan,
    )
    sample = read_image(request.sample) if request.sample else _sample(recipe)
    for name, report in export_bundle(model, spec, out, sample, say=print).items():
        agreement = f"{100 * report.labels:.2f} % of pixels equal to PyTorch"
        print(f"{name}: {agreement}, confidence within {report.confidence}/255")
    print(f"bundle: {out}")


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
