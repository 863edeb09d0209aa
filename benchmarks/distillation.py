"""Measures what slim decoders lose and what distillation gives back, for docs/research/distillation.md, with one seed.

    python benchmarks/distillation.py teacher                  # a decoder of 256 channels; half an hour of one core
    python benchmarks/distillation.py run --arm hrda_64 --iterations 800    # resumable; without --arm all, 250 steps
    python benchmarks/distillation.py speed                     # inference of the shipped model and its slim versions
    python benchmarks/distillation.py collect                   # benchmarks/results/distillation.json and the table

It needs the data that lies beside developers' clones. An arm is config/recipes/camvid_distill_hrda_lite.yaml with a few
values replaced, without labelled images. All arms of a teacher start from its encoder and the heaviest channels of its
decoders (except those named `_random`) with the same seed, and take the same number of steps. Labels of CamVid are read
for scoring alone.

The teacher is the encoder of models/hrda_lite under random decoders of 256 channels, trained supervised on renderings
and on CamVid frames with hard labels of models/hrda_lite, then by self-training from renderings to CamVid.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save_file

from hrda_core.bench.record import ROOT, milliseconds, write_record
from hrda_core.data.datasets.labelled import ImageLabelPairs, pair_folders
from hrda_core.data.image_files import read_image, read_names
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.deploy.export import ExportSpec, export_bundle
from hrda_core.deploy.network import load_network as load_bundled
from hrda_core.inference import Bundle, Predictor
from hrda_core.labels import CITYSCAPES19, EVALUATION_GROUPS
from hrda_core.machine import machine
from hrda_core.metrics import score
from hrda_core.models import create_model
from hrda_core.standard_streams import with_streams
from hrda_core.trainer.checkpoint import load_checkpoint
from hrda_core.trainer.distill import open_larger
from hrda_core.trainer.guide import inherit, load_guide
from hrda_core.trainer.loading import load_network
from hrda_core.trainer.loop import Watch, fit
from hrda_core.trainer.recipe import ModelConfig, Recipe
from hrda_core.trainer.recipe_data import NO_SOURCE, SourceConfig, TargetConfig
from hrda_core.trainer.state import WEIGHTS_NAME
from hrda_core.uda.self_training import SelfTrainingConfig
from hrda_core.whole_files import write_json
from hrda_core.windows.flops import plan_flops
from hrda_training import train

DATA = ROOT.parent / "shared" / "data"
SPLITS = ROOT / "config" / "splits"
LITE = ROOT / "models" / "hrda_lite"
WIDE = "hrda_256"

ARMS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "hrda_128": (WIDE, 128, {}),
    "hrda_64": (WIDE, 64, {}),
    "hrda_32": (WIDE, 32, {}),
    "hrda_64_hard": (WIDE, 64, {"temperature": 0.0}),
    "hrda_64_source": (WIDE, 64, {"method": "supervised"}),
    "lite_32": ("hrda_lite", 32, {}),
    "lite_16": ("hrda_lite", 16, {}),
    "lite_32_random": ("hrda_lite", 32, {"start": "encoder"}),
}
"""Arm -> teacher, width, and what is not as in the recipe: temperature 0 = hard pseudo-labels of the teacher;
`supervised` = labels of renderings alone; start `encoder` = random decoders."""

CUT_SHORT = {"hrda_64_600": "the moving average of a checkpoint after 600 steps of a schedule of 800"}
"""Models in the results that `run` does not give as they are."""

SPEED_NAME = "speed.json"

SUPERVISED, SELF_TRAINING = (203, 420), (35, 60)
"""Steps of the teacher's two parts, and of the schedule that they were taken from: both were cut short for time."""


def main() -> int:
    """Carry one action out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("teacher", "run", "speed", "collect"))
    parser.add_argument("--arm", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--iterations", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=30, help="speed: rounds, each of one image through each model")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "distillation")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.runs.mkdir(parents=True, exist_ok=True)
    if options.action == "teacher":
        _teacher(options.runs)
    elif options.action == "run":
        for arm in options.arm:
            _train(arm, options.runs, options.iterations)
    elif options.action == "speed":
        _speed(options.runs, options.rounds, options.iterations)
    else:
        _collect(options.runs)
    return 0


# The teacher.


def _teacher(runs: Path) -> None:
    mixed, start = _mixed_source(runs / "mixed"), runs / "start_256.safetensors"
    wide = _widths(256, (128, 176))
    _save_start(wide, 0, start)
    base = _recipe("camvid_distill_hrda_lite")
    first = replace(
        base,
        name=WIDE,
        method="supervised",
        distillation=None,
        target=None,
        source=SourceConfig(
            "renderings, and frames with hard labels of hrda_lite",
            images=mixed / "images",
            labels=mixed / "labels",
            split="",
            rcs_temperature=0.0,
        ),
        model=ModelConfig("hrda_lite", wide, weights=start, freeze_encoder_norm=True),
        crop=replace(base.crop, height=256, width=352, scale_min=0.75),
        optim=replace(base.optim, warmup=30),
        iterations=SUPERVISED[1],
        average=0.99,
    )
    _fit_up_to(SUPERVISED[0], first, runs / "teacher_1")
    weights = runs / "teacher_1.safetensors"
    _save_average(runs / "teacher_1", weights)
    second = replace(
        base,
        name=WIDE,
        method="self_training",
        distillation=None,
        model=ModelConfig("hrda_lite", _widths(256), weights=weights, freeze_encoder_norm=True),
        self_training=SelfTrainingConfig(alpha=0.99),
        optim=replace(base.optim, warmup=15),
        iterations=SELF_TRAINING[1],
    )
    _fit_up_to(SELF_TRAINING[0], second, runs / "teacher_2")
    _export(WIDE, load_network(runs / "teacher_2", "teacher"), _widths(256), runs)
    for name in (WIDE, "hrda_lite"):
        _score(name, runs)


def _fit_up_to(steps: int, recipe: Recipe, run: Path) -> None:
    """The first steps of a run; its checkpoint is what goes on."""
    done: list[int] = []
    watch = Watch(progress=lambda step: done.append(step.iteration), should_stop=lambda: done[-1] >= steps)
    fit(recipe, run, resume="auto", watch=watch)


def _mixed_source(folder: Path) -> Path:
    """Renderings with their labels beside adaptation frames with hard labels of models/hrda_lite, where it is sure."""
    for kind in ("images", "labels"):
        for name in ("synth", "camvid"):
            (folder / kind / name).mkdir(parents=True, exist_ok=True)
        for file in sorted((DATA / "synth_streets" / kind / "train").iterdir()):
            _link(folder / kind / "synth" / file.name, file)
    predictor = Predictor(LITE, threads=1)
    frames = open_unlabelled(DATA / "camvid" / "images", names=read_names(SPLITS / "camvid_adapt.txt"))
    for file in frames.files:  # type: ignore[attr-defined]
        image = DATA / "camvid" / "images" / file
        found = predictor(read_image(image))
        labels = np.where(found.confidence < 128, np.uint8(255), found.labels)
        cv2.imwrite(str(folder / "labels" / "camvid" / f"{image.stem}.png"), labels)
        _link(folder / "images" / "camvid" / image.name, image)
    return folder


def _link(path: Path, target: Path) -> None:
    if not path.exists():
        path.symlink_to(target)


def _save_start(
    overrides: Mapping[str, Any], seed: int, path: Path, larger: Path = LITE, start: str = "encoder"
) -> None:
    """What a distillation from a bundle with this seed starts from."""
    torch.manual_seed(seed)
    network = create_model("hrda_lite", len(CITYSCAPES19), **overrides)
    assert inherit(network, load_guide(open_larger(larger).guide, len(CITYSCAPES19)).network, start)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)


def _save_average(run: Path, path: Path) -> None:
    """The moving average of an unfinished supervised run, with the student's BatchNorm statistics."""
    saved = load_checkpoint(run / "checkpoint.safetensors")
    student, average = saved.below("student"), saved.below("teacher")
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    save_file(
        {name: (value if name.endswith(statistics) else average[name]).contiguous() for name, value in student.items()},
        path,
    )


# The arms.


def _train(arm: str, runs: Path, iterations: int) -> None:
    """Train, export and score an arm, or what is left of it."""
    name = f"{arm}_{iterations}"
    teacher, width, changes = ARMS[arm]
    larger = LITE if teacher == "hrda_lite" else runs / "bundles" / teacher
    guide = open_larger(larger).guide
    recipe = _recipe("camvid_distill_hrda_lite")
    assert recipe.distillation is not None
    recipe = replace(recipe, name=name, model=replace(recipe.model, overrides=_widths(width)), iterations=iterations)
    if changes.get("method") == "supervised":
        start = runs / f"{name}_start.safetensors"
        _save_start(recipe.model.overrides, recipe.seed, start, larger, "slices")
        model = replace(recipe.model, weights=start)
        recipe = replace(recipe, method="supervised", distillation=None, target=None, model=model)
    else:
        distillation = replace(recipe.distillation, guide=guide, **changes)
        source = SourceConfig(NO_SOURCE, layout=NO_SOURCE)
        recipe = replace(recipe, distillation=distillation, source=source)
    begin = time.monotonic()
    if not (runs / name / WEIGHTS_NAME).is_file():
        fit(recipe, runs / name, resume="auto", watch=Watch(say=print))
    print(f"{name}: trained in {time.monotonic() - begin:.0f} s", flush=True)
    _export(name, load_network(runs / name), recipe.model.overrides, runs)
    _score(name, runs)


def _recipe(stem: str) -> Recipe:
    """A recipe of config/recipes as `hrda train` reads it."""
    found: list[Recipe] = []
    kept, train.estimate = train.estimate, lambda recipe, *_: found.append(recipe)
    try:
        train.main([str(ROOT / "config" / "recipes" / f"{stem}.yaml"), "--check"])
    finally:
        train.estimate = kept
    recipe = found[0]
    (source,) = recipe.sources
    data = replace(source, images=DATA / "synth_streets/images/train", labels=DATA / "synth_streets/labels/train")
    target = TargetConfig(
        **vars(recipe.target) | {"path": DATA / "camvid/images", "names": SPLITS / "camvid_adapt.txt"}
    )
    return replace(recipe, source=data, target=target)


def _widths(width: int, detail_crop: tuple[int, int] = (96, 128)) -> dict[str, Any]:
    widths = {f"{part}_channels": width for part in ("decoder", "embed", "attention")}
    return {**widths, "detail_crop": list(detail_crop)}


def _export(name: str, network: Any, overrides: Mapping[str, Any], runs: Path) -> None:
    spec = ExportSpec(name, "hrda_lite", overrides, 640, {"licence": "for measurements alone"}, CITYSCAPES19)
    sample = read_image(next(iter(_sets()["day"].images)))
    export_bundle(network, spec, runs / "bundles" / name, sample)


# Figures.


def _sets() -> dict[str, ImageLabelPairs]:
    """What is scored on, as recorded in models/hrda_lite/manifest.yaml."""
    images, labels = DATA / "camvid" / "images", DATA / "camvid" / "labels"
    dusk = read_names(SPLITS / "camvid_dusk_score.txt")
    return {"day": pair_folders(images / "val", labels / "val"), "dusk": pair_folders(images, labels, names=dusk)}


def _score(model: str, runs: Path) -> None:
    """mIoU, boundary F, and agreement with the teacher, of the exported bundle in ONNX Runtime, plan `tiles`."""
    bundle = LITE if model == "hrda_lite" else runs / "bundles" / model
    predictor, figures = Predictor(bundle, threads=1), {}
    for name, pairs in _sets().items():
        masks: list[np.ndarray] = []

        def predict(rgb: np.ndarray, masks: list[np.ndarray] = masks) -> np.ndarray:
            masks.append(predictor(rgb).labels)
            return masks[-1]

        found = score(predict, pairs, EVALUATION_GROUPS["camvid11"])
        np.savez_compressed(runs / f"{model}_{name}.npz", masks=np.stack(masks))
        figures[name] = {"mean_iou": found.mean_iou, "boundary_f": found.boundary_f, "iou": found.iou}
        figures[name]["pixel_accuracy"] = found.pixel_accuracy
    network = load_bundled(Bundle.open(bundle))
    figures["gflop"] = plan_flops(network, "tiles", 480, 640, grid=(2, 2)).giga
    figures["parameters"] = sum(parameter.numel() for parameter in network.parameters())
    write_json(runs / f"{model}.json", figures)
    print(model, {name: round(100 * figures[name]["mean_iou"], 1) for name in ("day", "dusk")}, flush=True)


def _speed(runs: Path, rounds: int, iterations: int) -> None:
    """One 640x480 image through each model in turn, so that a change of load meets all."""
    paths = {"hrda_lite": LITE, WIDE: runs / "bundles" / WIDE}
    paths |= {arm: runs / "bundles" / f"{arm}_{iterations}" for arm in ("hrda_128", "lite_32", "lite_16")}
    predictors = {name: Predictor(path, threads=1) for name, path in paths.items()}
    image = cv2.resize(read_image(_sets()["day"].images[0]), (640, 480), interpolation=cv2.INTER_LINEAR)
    before = machine()
    wall: dict[str, list[float]] = {name: [] for name in predictors}
    cpu: dict[str, list[float]] = {name: [] for name in predictors}
    for predictor in predictors.values():
        predictor(image)
    for _ in range(rounds):
        for name, predictor in predictors.items():
            begin, used = time.perf_counter(), time.process_time()
            predictor(image)
            wall[name].append(time.perf_counter() - begin)
            cpu[name].append(time.process_time() - used)
    figures = {name: {"wall": milliseconds(wall[name]), "processor": milliseconds(cpu[name])} for name in predictors}
    found = {"figures": figures, "machine": before, "rounds": rounds}
    write_json(runs / SPEED_NAME, found)
    print(json.dumps({name: entry["wall"]["p50_ms"] for name, entry in figures.items()}))


def _collect(runs: Path) -> None:
    rows = {}
    for path in sorted(runs.glob("*.json"), key=_order):
        if path.name == SPEED_NAME:
            continue
        teacher = _teacher_of(path.stem)
        rows[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        rows[path.stem]["agreement"] = None if teacher is None else _agreement(path.stem, teacher, runs)
        rows[path.stem]["train"] = _training(runs / path.stem)
    speed = json.loads((runs / SPEED_NAME).read_text()) if (runs / SPEED_NAME).exists() else None
    settings = {"seed": 0, "runs": 1, "threads": 1, "plan": "tiles", "size": [480, 640], "crop": [192, 256]}
    settings |= {"teacher_steps": [SUPERVISED[0], SELF_TRAINING[0]], "batch_size": 2, "cut_short": CUT_SHORT}
    print(f"wrote {write_record('distillation', figures={'models': rows, 'speed': speed}, settings=settings)}")
    print(_table(rows))


def _order(path: Path) -> tuple[int, int, int]:
    """Teachers first, then by steps, then as in `ARMS`."""
    arm, _, steps = path.stem.rpartition("_")
    return (int(steps), list(ARMS).index(arm), 1) if arm in ARMS else (0, 0, 0)


def _teacher_of(model: str) -> str | None:
    arm = model.rpartition("_")[0]
    return ARMS[arm][0] if arm in ARMS else None


def _agreement(model: str, teacher: str, runs: Path) -> dict[str, float]:
    """Share of pixels with the teacher's class, on all pixels of the scored images."""
    found = {}
    for name in ("day", "dusk"):
        ours, theirs = (np.load(runs / f"{which}_{name}.npz")["masks"] for which in (model, teacher))
        found[name] = float((ours == theirs).mean())
    return found


def _training(run: Path) -> dict[str, float] | None:
    """Steps and seconds of a run; None of a model that is no arm."""
    if not (run / "log.jsonl").exists():
        return None
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {"steps": len(lines), "seconds": round(sum(line["seconds"] + line["wait_seconds"] for line in lines))}


def _table(rows: Mapping[str, Any]) -> str:
    lines = [
        "| model | parameters, M | GFLOP | mIoU day / dusk | boundary F | agreement |",
        "|---|---|---|---|---|---|",
    ]
    for arm, row in rows.items():
        pairs = [
            " / ".join(f"{100 * value:.1f}" for value in (row["day"][key], row["dusk"][key]))
            for key in ("mean_iou", "boundary_f")
        ]
        same = row["agreement"]
        agrees = "" if same is None else f"{100 * same['day']:.1f} / {100 * same['dusk']:.1f}"
        cells = [f"`{arm}`", f"{row['parameters'] / 1e6:.2f}", f"{row['gflop']:.2f}", *pairs, agrees]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "distillation"))
