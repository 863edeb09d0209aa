"""`hrda distill TEACHER --out BUNDLE --decoder_channels 64 --images DIR`: a faster model trained by a larger one.

    hrda distill models/hrda_large --out models/hrda_64 --decoder_channels 64 --bag drives/monday drives/night
    hrda distill runs/large --out models/hrda_32 --decoder_channels 32 --images frames --source packs/gta5
    hrda distill ... --resume                            # continue after an interruption, with the same options

No labels are needed: the faster model learns the larger model's predictions on the images. The larger one's encoder is
taken over. The result is a complete bundle; agreement with the larger model is measured on images that were not trained
on.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hrda_core.data.recordings.worker_choice import WorkerChoice
from hrda_core.errors import BundleError, RecipeError, require
from hrda_core.folder_locks import held_folder
from hrda_core.inference.bundle import MANIFEST_NAME
from hrda_core.memory import keep_big_buffers
from hrda_core.whole_files import check_place, write_json

from .arguments import model_folder, parse_request
from .distill_data import DistillData, open_data
from .progress import ProgressPrinter
from .stop_request import StopRequest

if TYPE_CHECKING:
    from hrda_core.adaptation.workspace import Workspace
    from hrda_core.data.datasets.labelled import ImageLabelPairs
    from hrda_core.labels import ClassGroups
    from hrda_core.trainer.distill import Larger
    from hrda_core.trainer.distill_measures import Comparison
    from hrda_core.trainer.recipe import Recipe, RuntimeConfig

__all__ = ["DistillRequest", "main"]

Part = TypeVar("Part")


@dataclass(frozen=True)
class DistillRequest:
    """The two networks, the images to learn on, and the length of the training.

    Attributes:
        teacher: larger model: a bundle or its name ('hrda models'), or the folder of a finished training run
        out: bundle folder for the slim model; a bundle there is replaced
        decoder_channels: width of the slim decoder, for example 64
        work: working folder; default: OUT.work
        resume: continue in the working folder of an interrupted call
        embed_channels: width of each embedded level; 0 = as the decoder
        attention_channels: width of the scale attention; 0 = as the decoder
        encoder: another encoder; default: the larger model's, with its weights
        backbone: weights file of another encoder
        allow_random_backbone: let another encoder start from random weights
        images: folder of images without labels
        list: text file of the images of the folder to use, one name a line
        bag: recordings instead; frames are chosen as by hrda adapt
        topic: camera topics of the recordings; default: the only one
        workers: processes that read recordings side by side; the chosen frames are the same, whatever their number
        dask: address of a dask.distributed scheduler whose workers read the recordings instead
        frames: largest number of frames of the recordings to learn on
        held_out: share of the images, at their end, to measure agreement on
        source: labelled images too: a pack of hrda pack-source, LAYOUT:ROOT, or a folder of images/ and labels/;
            streets = the pack that comes with hrda_ros; default: none
        iterations: number of training steps
        batch_size: number of images in a step
        crop: height and width of the crops; default: 0.75 of the image
        lr: learning rate of the encoder; decoders learn ten times faster
        start: slices = from encoder and heaviest decoder channels of the larger model; encoder = random decoders
        temperature: softness of the targets; 0 = hard labels, the control
        plan: window plan of the larger model: overlap, or tiles (half the time)
        detail: weight of the detail crop's own loss
        context: weight of the context's own loss
        attention: weight of the difference of the scale attentions
        eval_images: labelled images, to score both models on
        eval_labels: label PNGs of those images
        groups: groups of classes to score in, for example camvid11, or a YAML file; default: every class
        device: where the network is trained
        precision: number format of the training's computation
        threads: CPU threads; 0 = PyTorch's choice
        seed: seed of all randomness
        command: the command line, for the record
    """

    teacher: Path
    out: Path
    decoder_channels: int
    work: Path | None = None
    resume: bool = False
    embed_channels: int = 0
    attention_channels: int = 0
    encoder: str = ""
    backbone: Path | None = None
    allow_random_backbone: bool = False
    images: Path | None = None
    list: Path | None = None
    bag: tuple[Path, ...] = ()
    topic: tuple[str, ...] = ()
    workers: int = 1
    dask: str = ""
    frames: int = 500
    held_out: float = 0.1
    source: str = ""
    iterations: int = 2000
    batch_size: int = 2
    crop: tuple[int, int] | None = None
    lr: float = 1e-4
    start: Literal["slices", "encoder"] = "slices"
    temperature: float = 2.0
    plan: str = "overlap"
    detail: float = 0.1
    context: float = 0.0
    attention: float = 0.0
    eval_images: Path | None = None
    eval_labels: Path | None = None
    groups: str = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    threads: int = 0
    seed: int = 0
    command: str = ""

    def __post_init__(self) -> None:
        if (self.images is None) == (not self.bag):
            raise RecipeError("give the images to learn on: either --images FOLDER or --bag DRIVE, without labels")
        if (self.eval_images is None) != (self.eval_labels is None):
            raise RecipeError("give both --eval_images and --eval_labels, or neither")
        if self.readers != WorkerChoice() and not self.bag:
            raise RecipeError("--workers and --dask read recordings, and there is no --bag; leave them out")
        if not 0 < self.held_out <= 0.5:
            raise RecipeError(f"--held_out is a share above 0 and up to 0.5, not {self.held_out}")
        if self.out.resolve() == self.teacher.resolve():
            raise RecipeError(
                f"--out '{self.out}' is the larger model; give another folder, a given model is never lost"
            )

    @property
    def runtime(self) -> RuntimeConfig:
        """The runtime section of the training recipe."""
        from hrda_core.trainer.recipe import RuntimeConfig

        return RuntimeConfig(device=self.device, precision=self.precision, threads=self.threads)

    @property
    def readers(self) -> WorkerChoice:
        """What reads the recordings."""
        return WorkerChoice(self.workers, self.dask)

    def part(self, kind: type[Part]) -> Part:
        """Return a `Slim` or `Schedule` from the fields of this request that have the same names."""
        return kind(**{field.name: getattr(self, field.name) for field in fields(kind)})  # type: ignore[arg-type]

    def identity(self, larger: Larger) -> dict[str, Any]:
        """Return the options on which the images in the working folder depend; the run in it keeps its own recipe."""
        kept = ("bag", "topic", "frames", "held_out", "images", "list", "source")
        return {name: _plain(getattr(self, name)) for name in kept} | {"teacher": larger.guide.sha256}


def main(argv: list[str]) -> int:
    """Parse, distil, export, and report the result. Return the exit code."""
    read = {"teacher": model_folder}
    request, json = parse_request(DistillRequest, argv, verb="distill", about=__doc__, positional="teacher", read=read)
    require("torch", "train")
    from hrda_core.adaptation.stages.source import Wanted, check_source
    from hrda_core.adaptation.workspace import Workspace
    from hrda_core.data.packs.pack_folders import find_source
    from hrda_core.trainer.distill import open_larger

    keep_big_buffers()
    larger = open_larger(request.teacher)
    labelled = _labelled(request, larger)
    folder = request.work or request.out.with_name(request.out.name + ".work")
    if (folder / "run" / "checkpoint.safetensors").exists() and not request.resume:
        raise RecipeError(f"working folder '{folder}' holds a distillation already; give --resume, or another --work")
    check_place(request.out, MANIFEST_NAME, error=BundleError)
    source = find_source(request.source)
    if source.remark:
        print(source.remark, file=sys.stderr)
    request = replace(request, source=source.spec)
    check_source(request.source, Wanted(larger.label_space))
    with ProgressPrinter() as printer, held_folder(folder, f"distilling in '{folder}'", error=RecipeError):
        work = Workspace.open(folder, request.identity(larger), printer.say)
        data = open_data(request, larger.label_space, work, printer.say, printer.count)
        recipe = _recipe(request, larger, data)
        if not _train(recipe, work, printer):
            command = shlex.join(["hrda", "distill", *(argument for argument in argv if argument != "--resume")])
            printer.say(f"\nstopped; go on with: {command} --resume")
            return 130
        comparison = _finish(request, larger, recipe, data, labelled, work, printer.counter("labelled images"))
    print(f"\n{comparison.table()}\nbundle: {request.out}\nreport: {work.path('run') / 'report.html'}")
    if json:
        write_json(json, comparison.to_dict())
    return 0


def _labelled(request: DistillRequest, larger: Larger) -> tuple[ImageLabelPairs, ClassGroups] | None:
    """What to score on; a wrong folder or label shall not wait for the end of the training to be found."""
    from hrda_core.data.datasets.checked_labels import check_labels
    from hrda_core.data.datasets.labelled import pair_folders
    from hrda_core.label_files import find_groups

    groups = find_groups(request.groups, larger.label_space)
    if request.eval_images is None or request.eval_labels is None:
        return None
    pairs = pair_folders(request.eval_images, request.eval_labels)
    return check_labels(pairs, larger.label_space, scored=True).pairs, groups


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return str(value.resolve()) if isinstance(value, Path) else value


def _recipe(request: DistillRequest, larger: Larger, data: DistillData) -> Recipe:
    from hrda_core.adaptation.stages.train import smallest_size
    from hrda_core.trainer.distill import Schedule, Slim, distillation_recipe
    from hrda_core.trainer.recipe_data import TargetConfig

    return distillation_recipe(
        larger,
        request.part(Slim),
        request.part(Schedule),
        name=request.out.name,
        target=TargetConfig(data.description, path=data.train.folder, names=data.names, licence="as the images"),
        image_size=smallest_size(data.train, larger.scale),
        source=None if data.source is None else data.source.config,
        source_size=None if data.source is None else (data.source.height, data.source.width),
    )


def _train(recipe: Recipe, work: Workspace, printer: ProgressPrinter) -> bool:
    """Train, or what is left of it; False if it was asked to stop."""
    from hrda_core.report.run_page import write_report
    from hrda_core.trainer.loop import Watch, fit
    from hrda_core.trainer.state import WEIGHTS_NAME

    run = work.path("run")
    if (run / WEIGHTS_NAME).is_file():
        return True
    stop = StopRequest()
    watch = Watch(progress=stop.seen(printer.step), say=printer.say, should_stop=stop)
    with work.stage("train", f"{recipe.iterations} steps, crops of {recipe.crop.height} x {recipe.crop.width}"):
        finished = fit(recipe, run, resume="auto", watch=watch) is not None
    write_report(run)
    return finished


def _finish(
    request: DistillRequest,
    larger: Larger,
    recipe: Recipe,
    data: DistillData,
    labelled: tuple[ImageLabelPairs, ClassGroups] | None,
    work: Workspace,
    count: Callable[[int, int], None],
) -> Comparison:
    """Compare the two networks and write the bundle."""
    from hrda_core.deploy.export import ExportSpec, export_bundle
    from hrda_core.deploy.samples import Samples
    from hrda_core.models.presets import resolve_preset
    from hrda_core.trainer.distill_measures import measure
    from hrda_core.trainer.guide import load_guide
    from hrda_core.trainer.loading import load_network
    from hrda_core.uda.step import Guide

    network = load_network(work.path("run"))
    config = resolve_preset(recipe.model.preset, **recipe.model.overrides)
    pairs, groups = labelled or (None, None)
    with work.stage("measure", f"both models on {len(data.held_out)} images that were held out"):
        comparison = measure(
            load_guide(larger.guide, len(larger.label_space)),
            Guide(network, config.mean, config.std),
            data.held_out,
            grid=larger.grid,
            scale=larger.scale,
            labelled=pairs,
            groups=groups,
            progress=count,
        )
    spec = ExportSpec(
        name=request.out.name,
        preset=recipe.model.preset,
        overrides=recipe.model.overrides,
        scale=larger.scale,
        provenance=_provenance(larger, recipe, comparison, request.command),
        label_space=larger.label_space,
        grid=larger.grid,
    )
    with work.stage("export", f"to '{request.out}'"):
        samples = Samples.of(
            data.held_out, "They are frames that the model was compared on; their terms are those of the data."
        )
        export_bundle(network, spec, request.out, samples.images[0], samples=samples)
    return comparison


def _provenance(larger: Larger, recipe: Recipe, comparison: Comparison, command: str) -> dict[str, Any]:
    """The larger model's, without its scores, and how the slim one came of it."""
    before = {key: value for key, value in larger.provenance.items() if key not in ("scores", "adaptation", "settings")}
    return (
        before
        | recipe.provenance("moving average of the slim network")
        | {
            "method": f"distillation from {larger.guide.name}",
            "started_from": larger.guide.name,
            "distillation": {
                "larger": larger.guide.name,
                "larger_sha256": larger.guide.sha256,
                "measured": comparison.to_dict(),
                "command": command,
            },
        }
    )
