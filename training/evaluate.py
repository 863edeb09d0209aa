"""`hrda evaluate`: score a bundle, or a network of a training run, on labelled images.

    hrda evaluate --bundle models/hrda_lite --images IMAGES --labels LABELS --groups camvid11 --json scores.json
    hrda evaluate --run runs/NAME --network teacher --plan nested --layout cityscapes --root ROOT --split val

Images and labels of two folders are matched by relative name; labels are 8-bit PNGs of class ids (255 = not labelled).
With `--layout` a public data set is read as downloaded, its native ids translated. A bundle's masks come from the same
`Predictor` that the ROS node uses, a run's from PyTorch. docs/research/evaluation.md says what the scores mean.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.data.datasets.labelled import ImageLabelPairs, open_labelled, pair_folders, read_names
from hrda_core.data.datasets.layouts import layout_names
from hrda_core.errors import DataError, RecipeError, require
from hrda_core.inference import Bundle, Predictor
from hrda_core.inference.bundle import change_bundle
from hrda_core.inference.model_card import CARD_NAME, model_card
from hrda_core.labels import CITYSCAPES19, EVALUATION_GROUPS, ClassGroups, LabelSpace
from hrda_core.metrics import Evaluation, score
from hrda_core.whole_files import write_json, write_whole

from .arguments import parse
from .progress import ProgressPrinter

__all__ = ["main"]

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Model:
    """What is scored: a function from an RGB image to class ids, what it is, and where scores may be recorded."""

    predict: Callable[[UInt8Array], UInt8Array]
    space: LabelSpace
    origin: Mapping[str, str]
    bundle: Bundle | None = None


def main(argv: list[str]) -> int:
    """Parse, score, print a table, write JSON and pictures. Returns the exit code."""
    options = parse(_parser(), argv)
    if (options.bundle is None) == (options.run is None):
        raise RecipeError("give what to score: either --bundle BUNDLE or --run RUN")
    if options.record and options.bundle is None:
        raise RecipeError("--record keeps scores in a bundle; give --bundle, or --json FILE for a run")
    pairs = _open_pairs(options)
    model = _open_bundle(options) if options.run is None else _open_run(options)
    groups = _groups(options.groups, model.space)
    with ProgressPrinter() as printer:
        result = score(model.predict, pairs, groups, progress=printer.counter("images"))
    _print_table(result, model)
    values = {**model.origin, **result.to_dict()}
    if options.json:
        write_json(options.json, values)
    if options.confusion:
        from hrda_core.report.figures import draw_confusion

        write_whole(options.confusion, draw_confusion(result.confusion, result.classes))
    if options.record and model.bundle is not None:
        if values["mean_iou"] is None:
            raise DataError("the labels hold no pixel of any class, so there is no score to record; check --labels")
        _record(model.bundle, options.record, values, shlex.join(["hrda", "evaluate", *argv]))
    return 0


def _parser() -> Any:
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=None, help="model bundle")
    parser.add_argument("--run", type=Path, default=None, help="folder of a training run, instead of a bundle")
    parser.add_argument("--network", type=str, default="student", help="of the run: student or teacher")
    parser.add_argument("--images", type=Path, default=None, help="folder of images")
    parser.add_argument("--labels", type=Path, default=None, help="folder of label PNGs with the images' names")
    parser.add_argument(
        "--layout", type=str, default="", help=f"instead, a data set as downloaded: {', '.join(layout_names())}"
    )
    parser.add_argument("--root", type=Path, default=None, help="folder of that data set")
    parser.add_argument("--split", type=str, default="val", help="of that data set")
    parser.add_argument("--list", type=Path, default=None, help="text file of the images to use, one name a line")
    parser.add_argument(
        "--groups", type=str, default="", help=f"score in groups: {', '.join(EVALUATION_GROUPS)}; default: every class"
    )
    parser.add_argument("--plan", type=str, default="", help="window plan; default: the bundle's, or overlap / whole")
    parser.add_argument("--resize", type=int, nargs=2, default=None, help="run: largest width and height to predict at")
    parser.add_argument("--backend", type=str, default="auto", help="inference back end of a bundle")
    parser.add_argument("--device", type=str, default="auto", help="of a run: auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = all cores but one")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--confusion", type=Path, default=None, help="draw the confusion matrix here, PNG")
    parser.add_argument("--record", type=str, default="", help="also keep the scores under this name in the bundle")
    return parser


def _open_pairs(options: Any) -> ImageLabelPairs:
    names = None if options.list is None else read_names(options.list)
    if options.layout:
        return open_labelled(
            options.layout,
            options.root,
            options.split,
            images=options.images,
            labels=options.labels,
            names=names,
        )
    if options.images is None or options.labels is None:
        raise RecipeError("give the data: --images FOLDER and --labels FOLDER, or --layout NAME and --root FOLDER")
    return pair_folders(options.images, options.labels, names=names)


def _open_bundle(options: Any) -> _Model:
    if options.resize or options.network != "student":
        raise RecipeError("--resize and --network belong to --run; a bundle has one network and its own size")
    predictor = Predictor(options.bundle, options.backend, options.plan or None, threads=options.threads)
    origin = {
        "bundle": predictor.bundle.name,
        "plan": predictor.plan,
        "backend": predictor.backend_description,
    }
    return _Model(lambda rgb: predictor(rgb).labels, predictor.bundle.label_space, origin, predictor.bundle)


def _open_run(options: Any) -> _Model:
    torch = require("torch", "train")
    from .run_predictor import RunPredictor

    torch.set_num_threads(options.threads or max(1, torch.get_num_threads() - 1))
    resize = None if options.resize is None else tuple(options.resize)
    predictor = RunPredictor(options.run, options.network, options.plan, device=options.device, resize=resize)
    origin = {
        "run": predictor.name,
        "network": options.network,
        "plan": predictor.plan,
        "backend": predictor.description,
    }
    return _Model(predictor, CITYSCAPES19, origin)


def _groups(name: str, space: LabelSpace) -> ClassGroups:
    if not name:
        return ClassGroups.of(space)
    if name not in EVALUATION_GROUPS:
        raise RecipeError(f"--groups '{name}' is not known; choose one of {', '.join(EVALUATION_GROUPS)}")
    if space.classes != CITYSCAPES19.classes:
        raise RecipeError(
            f"--groups '{name}' are groups of the classes of {CITYSCAPES19.name}, but the model's are those of "
            f"'{space.name}'; leave --groups out"
        )
    return EVALUATION_GROUPS[name]


def _record(bundle: Bundle, name: str, values: Mapping[str, Any], command: str) -> None:
    """Keep the scores in the bundle's manifest and model card."""
    kept = {key: value for key, value in values.items() if key not in ("confusion", "classes", "bundle")}

    def with_scores(now: Bundle) -> tuple[Mapping[str, Any], Mapping[str, bytes]]:
        provenance = dict(now.manifest.get("provenance", {}))
        provenance["scores"] = {**provenance.get("scores", {}), name: {**kept, "command": command}}
        manifest = {**now.manifest, "provenance": provenance}
        return manifest, {CARD_NAME: model_card(manifest).encode()}

    change_bundle(bundle.path, with_scores)


def _print_table(result: Evaluation, model: _Model) -> None:
    origin = model.origin
    what = origin["bundle"] if "bundle" in origin else f"{origin['run']} ({origin['network']})"
    print(f"\n{what}, window plan {origin['plan']}, {origin['backend']}: {result.images} images, {result.groups}")
    print(f"  {'':<16}{'IoU':>7}{'boundary F':>13}")
    for name, value in result.iou.items():
        print(f"  {name:<16}{_percent(value)}      {_percent(result.class_boundary_f[name])}")
    print(f"  {'mean':<16}{_percent(result.mean_iou)}      {_percent(result.boundary_f)}")
    print(f"  mIoU {_percent(result.mean_iou).strip()}   pixel accuracy {_percent(result.pixel_accuracy).strip()}")


def _percent(value: float | None) -> str:
    return f"{'-':>7}" if value is None or np.isnan(value) else f"{100 * value:5.1f} %"
