"""`hrda export RUN --out BUNDLE`: make a bundle of a training run, or add a graph for one image size to a bundle.

hrda export runs/hrda_lite --out models/hrda_lite                        # the exported network of the run
hrda export runs/adapted --network teacher --out models/adapted          # the moving average of a self-training run
hrda export runs/mine --which best --out models/mine                     # the best by the recipe's keep_best
hrda export models/mine --size 480x640 --plan tiles --precision fp16     # a graph for one camera, in the bundle
hrda export models/mine --size 480x640 --precision fp16 --engine         # and its TensorRT engine, on the robot
hrda export hrda_lite --size 480x640                 # of the model that came with hrda_ros: a copy of yours gets it
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hrda_core.data.frames import evenly_spaced
from hrda_core.data.image_files import read_image
from hrda_core.errors import DataError, RecipeError
from hrda_core.inference.bundle import MANIFEST_NAME

from .arguments import model_folder, pair, parse_request
from .export_static import add_graph

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hrda_core.data.datasets.labelled import ImageLabelPairs
    from hrda_core.deploy.samples import Samples
    from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.recipe_data import LabelledConfig, TargetPartConfig

__all__ = ["ExportRequest", "main"]


@dataclass(frozen=True)
class ExportRequest:
    """The thing to export: a training run, a graph for one image size, or the engine of such a graph.

    Attributes:
        run: folder of a finished training run, or a bundle or its name ('hrda models')
        out: bundle folder, needed for a run; with a bundle: a copy of it that gets the graph; default: the bundle
            itself, or for one that came with hrda_ros its copy in $HRDA_MODELS
        network: network of a run; the paper's is the student
        which: of a run, the last networks or the best ones that its recipe's keep_best kept
        sample: for a run, image for the parity check and the bundle's samples; default: images of the run
        plan: window plan: tiles, overlap, topk, context; whole for others; default for a run: that of its report
        long_side: shrink larger images to this first, pixels; 0 = never; default for a run: resize as its report does
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
    which: Literal["last", "best"] = "last"
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
    from hrda_core.deploy.export import ExportSpec, export_bundle, graph_plans
    from hrda_core.inference.bundle import Bundle
    from hrda_core.models import HRDA
    from hrda_core.trainer.best import best_of
    from hrda_core.trainer.class_shares import run_bias
    from hrda_core.trainer.loading import load_network, load_recipe
    from hrda_core.trainer.run_use import run_use
    from hrda_core.trainer.spaces import recipe_space
    from hrda_core.trainer.state import WEIGHTS_NAME

    run, network = request.run, request.network
    recipe = load_recipe(run)
    if request.which == "last" and not (run / WEIGHTS_NAME).is_file():
        raise DataError(f"run '{run}' has no {WEIGHTS_NAME}: it is not finished; resume it")
    model = load_network(run, network, request.which)
    use = run_use(recipe, run, hrda=isinstance(model, HRDA))
    scale = use.scale if request.long_side is None else use.scale.only(request.long_side)
    # With --size the plan is that of the further graph.
    plan = "" if request.size else request.plan
    if not plan and use.choice.name in graph_plans(model):
        plan = use.choice.name
    spec = ExportSpec(
        name=recipe.name,
        preset=recipe.model.preset,
        overrides=recipe.model.overrides,
        scale=scale,
        provenance=_provenance(recipe, network, best_of(run) if request.which == "best" else None),
        label_space=recipe_space(recipe),
        grid=request.grid,
        default_plan=plan,
        bias=run_bias(run, recipe),
    )
    samples = _given(request.sample) if request.sample else _samples(recipe)
    for name, report in export_bundle(model, spec, out, samples.images[0], samples=samples, say=print).items():
        agreement = f"{100 * report.labels:.2f} % of pixels equal to PyTorch"
        print(f"{name}: {agreement}, confidence within {report.confidence}/255")
    made = Bundle.open(out, verify=False).default_plan
    print(f"{scale}; window plan {made} ({use.origin})")
    if use.choice.name != made and not plan:
        print(
            f"the report's window plan, {use.choice.name}, is no graph for any image size: scores can differ a little"
        )
    print(f"bundle: {out}")


def _provenance(recipe: Recipe, network: str, best: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the model card says; empty entries are left out of it."""
    chosen = {"iterations": best["iteration"]} if best else {}
    what = f"{network}, chosen by the best {best['score']} of the run" if best else network
    return (
        recipe.provenance(what)
        | chosen
        | {
            "encoder_weights": "ImageNet" if recipe.model.imagenet or recipe.model.backbone else "random",
            "started_from": str(recipe.model.weights or ""),
            "licence": "Apache-2.0, as far as the licences of the data leave it to us",
            "limits": recipe.limits or "Not stated.",
        }
    )


def _given(file: Path) -> Samples:
    """The image that the user names: the run's data need not be on this machine."""
    from hrda_core.deploy.samples import Samples

    return Samples((read_image(file),), f"It is the file '{file.name}'.")


def _samples(recipe: Recipe) -> Samples:
    """Images of the domain that the model is for: what it is scored on, else what it adapted to, else its source."""
    from hrda_core.deploy.samples import MOST, Samples
    from hrda_core.trainer.sources import fitting_target, open_pairs, open_validation

    if recipe.validation:
        return _few([(part, open_validation(part)) for part in recipe.validation[:MOST]])
    if recipe.target is not None:
        return Samples.of(fitting_target(recipe, recipe.target)[0], _origin(recipe.target.parts))
    return _few([(part, open_pairs(part)) for part in recipe.sources[:MOST]])


def _few(parts: Sequence[tuple[LabelledConfig, ImageLabelPairs]]) -> Samples:
    """A few images of each of at most `MOST` data sets."""
    from hrda_core.deploy.samples import MOST, Samples

    share = MOST // len(parts)
    # Images alone: labels that training left out are none of a sample's business.
    chosen = [(pairs, row) for _, pairs in parts for row in evenly_spaced(range(len(pairs)), share)]
    images = [read_image(pairs.images[row], pairs.values) for pairs, row in chosen]
    return Samples(tuple(images), _origin([part for part, _ in parts]))


def _origin(parts: Sequence[LabelledConfig | TargetPartConfig]) -> str:
    named = "; ".join(f"{part.name} (licence: {part.licence})" for part in parts)
    return f"They are from {named}."
