"""`hrda distill TEACHER --out BUNDLE --decoder_channels 64 --images DIR`: a faster model that says what a larger says.

    hrda distill models/hrda_large --out models/hrda_64 --decoder_channels 64 --bag drives/monday drives/night
    hrda distill runs/large --out models/hrda_32 --decoder_channels 32 --images frames --source packs/gta5
    hrda distill ... --resume                            # go on after an interruption, with the same options

No labels are needed: the larger model's predictions on the images are what is learnt. Its encoder is taken over. The
result is a complete bundle; agreement with the larger model is measured on images that were not trained on.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrda_core.errors import BundleError, RecipeError, require
from hrda_core.inference.bundle import MANIFEST_NAME
from hrda_core.memory import keep_big_buffers
from hrda_core.whole_files import check_place, write_json

from .arguments import parse
from .distill_data import DistillData, open_data
from .progress import ProgressPrinter
from .stop_request import StopRequest

if TYPE_CHECKING:
    from hrda_core.adaptation.workspace import Workspace
    from hrda_core.data.datasets.labelled import ImageLabelPairs
    from hrda_core.labels import ClassGroups
    from hrda_core.trainer.distill import Larger, Schedule, Slim
    from hrda_core.trainer.distill_measures import Comparison
    from hrda_core.trainer.recipe import Recipe

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Parse, distil, export, say what it came to. Returns the exit code."""
    options = parse(_parser(), argv)
    require("torch", "train")
    from hrda_core.adaptation.stages.source import check_source
    from hrda_core.adaptation.workspace import Workspace
    from hrda_core.trainer.distill import open_larger

    keep_big_buffers()
    if (options.images is None) == (not options.bag):
        raise RecipeError("give the images to learn on: either --images FOLDER or --bag DRIVE, without labels")
    larger = open_larger(options.teacher)
    labelled = _labelled(options)
    folder = options.work or options.out.with_name(options.out.name + ".work")
    _check_begun(folder, options)
    check_place(options.out, MANIFEST_NAME, error=BundleError)
    check_source(options.source)
    schedule = _schedule(options)
    with ProgressPrinter() as printer:
        work = Workspace.open(folder, _identity(options, larger), printer.say)
        data = open_data(options, work, printer.say, printer.count)
        recipe = _recipe(options, larger, schedule, data)
        if not _train(recipe, work, printer):
            command = shlex.join(["hrda", "distill", *(argument for argument in argv if argument != "--resume")])
            printer.close()
            print(f"\nstopped; go on with: {command} --resume", file=sys.stderr)
            return 130
        count = printer.counter("labelled images")
        command = shlex.join(["hrda", "distill", *argv])
        comparison = _finish(options, larger, recipe, data, labelled, work, command, count)
    print(f"\n{comparison.table()}\nbundle: {options.out}\nreport: {work.path('run') / 'report.html'}")
    if options.json:
        write_json(options.json, comparison.to_dict())
    return 0


def _parser() -> Any:
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda distill", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("teacher", type=Path, help="larger model: a bundle, or the folder of a finished training run")
    add("--out", type=Path, required=True, help="bundle folder for the slim model; a bundle there is replaced")
    add("--work", type=Path, default=None, help="working folder; default: OUT.work")
    add("--resume", action="store_true", help="go on in the working folder of an interrupted call")
    add("--decoder_channels", type=int, required=True, help="width of the slim decoder, for example 64")
    add("--embed_channels", type=int, default=0, help="width of each embedded level; 0 = as the decoder")
    add("--attention_channels", type=int, default=0, help="width of the scale attention; 0 = as the decoder")
    add("--encoder", type=str, default="", help="another encoder; default: the larger model's, with its weights")
    add("--backbone", type=Path, default=None, help="weights file of another encoder")
    add("--allow-random-backbone", action="store_true", help="let another encoder start from random weights")
    add("--images", type=Path, default=None, help="folder of images without labels")
    add("--list", type=Path, default=None, help="text file of the images of the folder to use, one name a line")
    add("--bag", type=Path, nargs="+", default=[], help="recordings instead; frames are chosen as by hrda adapt")
    add("--topic", type=str, nargs="*", default=[], help="camera topics of the recordings; default: the only one")
    add("--frames", type=int, default=500, help="most frames of the recordings to learn on")
    add("--held_out", type=float, default=0.1, help="share of the images, from their end, to measure agreement on")
    add("--source", type=str, default="", help="labelled images too: a pack of hrda pack-source, LAYOUT:ROOT, or a "
        "folder of images/ and labels/; default: none")  # fmt: skip
    add("--iterations", type=int, default=2000, help="steps")
    add("--batch_size", type=int, default=2, help="images a step")
    add("--crop", type=int, nargs=2, default=None, help="height and width of the crops; default: 0.75 of the image")
    add("--lr", type=float, default=1e-4, help="learning rate of the encoder; decoders learn ten times faster")
    add("--start", type=str, default="slices", help="slices: from encoder and heaviest decoder channels of the larger "
        "model; encoder: random decoders")  # fmt: skip
    add("--temperature", type=float, default=2.0, help="softness of the targets; 0 = hard labels, the control")
    add(
        "--plan", type=str, default="overlap", help="window plan of the larger model: overlap, or tiles (half the time)"
    )
    add("--detail", type=float, default=0.1, help="share of the detail crop's own loss")
    add("--context", type=float, default=0.0, help="share of the context's own loss")
    add("--attention", type=float, default=0.0, help="weight of the difference of the scale attentions")
    add("--eval_images", type=Path, default=None, help="labelled images, to score both models on")
    add("--eval_labels", type=Path, default=None, help="their label PNGs")
    add("--groups", type=str, default="cityscapes19", help="groups of classes to score in, for example camvid11")
    add("--device", type=str, default="auto", help="auto, cpu or cuda")
    add("--precision", type=str, default="fp32", help="fp32, bf16 or fp16")
    add("--threads", type=int, default=0, help="CPU threads; 0 = PyTorch's choice")
    add("--seed", type=int, default=0, help="of all randomness")
    add("--json", type=Path, default=None, help="write the figures here")
    return parser


def _labelled(options: Any) -> tuple[ImageLabelPairs, ClassGroups] | None:
    """What to score on; a wrong folder shall not wait for the end of the training to be found."""
    from hrda_core.data.datasets.labelled import pair_folders
    from hrda_core.labels import EVALUATION_GROUPS

    if (options.eval_images is None) != (options.eval_labels is None):
        raise RecipeError("give both --eval_images and --eval_labels, or neither")
    if options.groups not in EVALUATION_GROUPS:
        raise RecipeError(f"--groups '{options.groups}' is not known; choose one of {', '.join(EVALUATION_GROUPS)}")
    if options.eval_images is None:
        return None
    return pair_folders(options.eval_images, options.eval_labels), EVALUATION_GROUPS[options.groups]


def _check_begun(folder: Path, options: Any) -> None:
    if options.out.resolve() == options.teacher.resolve():
        raise RecipeError(
            f"--out '{options.out}' is the larger model; give another folder, a given model is never lost"
        )
    if (folder / "run" / "checkpoint.safetensors").exists() and not options.resume:
        raise RecipeError(f"working folder '{folder}' holds a distillation already; give --resume, or another --work")


def _schedule(options: Any) -> Schedule:
    from hrda_core.trainer.distill import Schedule
    from hrda_core.trainer.recipe import RuntimeConfig

    if options.start not in ("slices", "encoder"):
        raise RecipeError(f"--start is slices or encoder, not '{options.start}'")
    if not 0 < options.held_out <= 0.5:
        raise RecipeError(f"--held_out is a share above 0 and up to 0.5, not {options.held_out}")
    return Schedule(
        iterations=options.iterations,
        batch_size=options.batch_size,
        lr=options.lr,
        seed=options.seed,
        start=options.start,
        temperature=options.temperature,
        plan=options.plan,
        attention=options.attention,
        detail=options.detail,
        context=options.context,
        crop=None if options.crop is None else (options.crop[0], options.crop[1]),
        runtime=RuntimeConfig(device=options.device, precision=options.precision, threads=options.threads),
    )


def _slim(options: Any) -> Slim:
    from hrda_core.trainer.distill import Slim

    return Slim(
        options.decoder_channels,
        options.embed_channels,
        options.attention_channels,
        options.encoder,
        options.backbone,
        options.allow_random_backbone,
    )


def _identity(options: Any, larger: Larger) -> dict[str, Any]:
    """What the images in the working folder depend on; the run in it keeps its own recipe."""
    kept = ("bag", "topic", "frames", "held_out", "images", "list", "source")
    return {name: _plain(getattr(options, name)) for name in kept} | {"teacher": larger.guide.sha256}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return str(value.resolve()) if isinstance(value, Path) else value


def _recipe(options: Any, larger: Larger, schedule: Schedule, data: DistillData) -> Recipe:
    from hrda_core.adaptation.stages.train import smallest_size
    from hrda_core.trainer.distill import distillation_recipe
    from hrda_core.trainer.recipe import TargetConfig

    return distillation_recipe(
        larger,
        _slim(options),
        schedule,
        name=options.out.name,
        target=TargetConfig(data.description, path=data.train.folder, names=data.names, licence="as the images"),
        image_size=smallest_size(data.train, larger.long_side),
        source=data.source,
        source_size=data.source_size,
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
    options: Any,
    larger: Larger,
    recipe: Recipe,
    data: DistillData,
    labelled: tuple[ImageLabelPairs, ClassGroups] | None,
    work: Workspace,
    command: str,
    count: Callable[[int, int], None],
) -> Comparison:
    """Compare the two networks and write the bundle."""
    from hrda_core.deploy.export import ExportSpec, export_bundle
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
            load_guide(larger.guide),
            Guide(network, config.mean, config.std),
            data.held_out,
            grid=larger.grid,
            long_side=larger.long_side,
            labelled=pairs,
            groups=groups,
            progress=count,
        )
    spec = ExportSpec(
        name=options.out.name,
        preset=recipe.model.preset,
        overrides=recipe.model.overrides,
        long_side=larger.long_side,
        provenance=_provenance(larger, recipe, comparison, command),
        grid=larger.grid,
    )
    with work.stage("export", f"to '{options.out}'"):
        export_bundle(network, spec, options.out, data.held_out.load(0))
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
