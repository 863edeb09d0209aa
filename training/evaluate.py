"""`hrda evaluate`: score a bundle on labelled images.

    hrda evaluate --bundle models/hrda_lite --images IMAGES --labels LABELS --groups camvid11 --json scores.json

Images and labels are matched by relative name; labels are 8-bit PNGs of class ids (255 = not labelled). The masks come
from the same `Predictor` that the ROS node uses.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hrda_core.data.datasets import ImageLabelPairs, pair_folders
from hrda_core.errors import DataError, RecipeError, require
from hrda_core.inference import Bundle, Predictor
from hrda_core.inference.bundle import write_manifest
from hrda_core.inference.model_card import CARD_NAME, model_card
from hrda_core.labels import EVALUATION_GROUPS, ClassGroups
from hrda_core.metrics import Confusion

__all__ = ["Evaluation", "evaluate", "main"]


@dataclass(frozen=True)
class Evaluation:
    """Result of one evaluation; `None` stands for a class that is neither labelled nor predicted."""

    bundle: str
    plan: str
    backend: str
    groups: str
    images: int
    mean_iou: float
    pixel_accuracy: float
    iou: dict[str, float | None]
    confusion: list[list[int]]


def main(argv: list[str]) -> int:
    """Parse, score, print a table, write JSON. Returns the exit code."""
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True, help="model bundle")
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--labels", type=Path, required=True, help="folder of label PNGs with the images' names")
    parser.add_argument("--list", type=Path, default=None, help="text file of names below IMAGES, one a line")
    parser.add_argument("--groups", type=str, default="", help=f"score in groups: {', '.join(EVALUATION_GROUPS)}")
    parser.add_argument("--plan", type=str, default="", help="window plan; default: the bundle's")
    parser.add_argument("--backend", type=str, default="auto", help="inference back end")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = all cores but one")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    parser.add_argument("--record", type=str, default="", help="also keep the scores under this name in the bundle")
    options = parser.parse_args(argv)
    pairs = pair_folders(options.images, options.labels, names=_names(options.list))
    predictor = Predictor(options.bundle, options.backend, options.plan or None, threads=options.threads)
    result = evaluate(predictor, pairs, _groups(options.groups, predictor.bundle))
    _print_table(result)
    if options.json:
        part = options.json.with_name(options.json.name + ".part")
        part.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
        part.replace(options.json)
    if options.record:
        _record(predictor.bundle, options.record, result, shlex.join(["hrda", "evaluate", *argv]))
    return 0


def evaluate(predictor: Predictor, pairs: ImageLabelPairs, groups: ClassGroups) -> Evaluation:
    """Score `predictor` on `pairs`, with prediction and labels both mapped through `groups`."""
    table, confusion = groups.table(), Confusion(len(groups.groups))
    for index in range(len(pairs)):
        image, labels = pairs.load(index)
        confusion.add(table[predictor(image).labels], table[labels])
        _progress(index + 1, len(pairs))
    scores = confusion.scores()
    iou = {name: _number(value) for name, value in zip(groups.names, scores.iou, strict=True)}
    return Evaluation(
        bundle=predictor.bundle.name,
        plan=predictor.plan,
        backend=predictor.backend_description,
        groups=groups.name,
        images=len(pairs),
        mean_iou=scores.mean_iou,
        pixel_accuracy=scores.pixel_accuracy,
        iou=iou,
        confusion=confusion.counts.tolist(),
    )


def _groups(name: str, bundle: Bundle) -> ClassGroups:
    space = bundle.label_space
    if not name:
        return ClassGroups(space.name, tuple((label, (index,)) for index, label in enumerate(space.classes)))
    if name not in EVALUATION_GROUPS:
        raise RecipeError(f"--groups '{name}' is not known; choose one of {', '.join(EVALUATION_GROUPS)}")
    return EVALUATION_GROUPS[name]


def _names(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        lines = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise DataError(f"list '{path}' cannot be read ({error.strerror}); expected one name a line") from None
    return [str(Path(line).with_suffix("")) if line.endswith((".jpg", ".png")) else line for line in lines]


def _record(bundle: Bundle, name: str, result: Evaluation, command: str) -> None:
    """Keep the scores in the bundle's manifest and model card."""
    manifest = {key: value for key, value in bundle.manifest.items() if key not in ("format_version", "files")}
    provenance = dict(manifest.get("provenance", {}))
    kept = {key: value for key, value in asdict(result).items() if key not in ("confusion", "bundle")}
    provenance["scores"] = {**provenance.get("scores", {}), name: {**kept, "command": command}}
    manifest["provenance"] = provenance
    bundle.file(CARD_NAME).write_text(model_card(manifest), encoding="utf-8")
    write_manifest(bundle.path, manifest)


def _print_table(result: Evaluation) -> None:
    print(f"\n{result.bundle}, window plan {result.plan}, {result.backend}: {result.images} images")
    for name, value in result.iou.items():
        print(f"  {name:<16}{'-' if value is None else f'{100 * value:5.1f} %'}")
    print(f"  {'mIoU':<16}{100 * result.mean_iou:5.1f} %   pixel accuracy {100 * result.pixel_accuracy:.1f} %")


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{total} images", end="" if done < total else "\n", file=sys.stderr, flush=True)


def _number(value: np.float64) -> float | None:
    return None if math.isnan(value) else float(value)
