"""`hrda evaluate`: score a bundle, or a network of a training run, on labelled images.

    hrda evaluate --bundle models/hrda_lite --images IMAGES --labels LABELS --groups camvid11 --json scores.json
    hrda evaluate --run runs/NAME --network teacher --plan nested --layout cityscapes --root ROOT --split val

Images and labels of two folders are matched by relative name; labels are 8-bit PNGs of class ids (255 = not labelled).
With `--layout` a public data set is read as downloaded, its native ids translated. A bundle's masks come from the same
`Predictor` that the ROS node uses, a run's from PyTorch. docs/research/evaluation.md says what the scores mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hrda_core.errors import DataError, RecipeError, require
from hrda_core.labels import CITYSCAPES19, EVALUATION_GROUPS, ClassGroups, LabelSpace
from hrda_core.whole_files import write_json, write_whole

from .arguments import model_folder, parse_request
from .progress import ProgressPrinter

if TYPE_CHECKING:
    from hrda_core.data.datasets.labelled import ImageLabelPairs
    from hrda_core.inference import Bundle
    from hrda_core.metrics import Evaluation

    from .segmentation import Model

__all__ = ["EvaluateRequest", "main"]


@dataclass(frozen=True)
class EvaluateRequest:
    """The model to score, and the data.

    Attributes:
        bundle: model bundle, or its name ('hrda models')
        run: folder of a training run, instead of a bundle
        network: network of the run
        images: folder of images
        labels: folder of label PNGs with the images' names
        layout: instead of --images, a data set as downloaded: gta5, synthia, cityscapes, acdc, dark_zurich, bdd100k,
            mapillary, folders
        root: folder of that data set
        split: split of that data set
        list: text file of the images to use, one name on each line
        groups: score in groups: cityscapes19, synthia16, synthia13, camvid11; default: every class
        plan: window plan; default: the bundle's, or overlap / whole
        resize: for a run, largest width and height to predict at
        backend: inference back end of a bundle
        device: device of a run
        threads: CPU threads; 0 = all cores but one
        confusion: draw the confusion matrix here, PNG
        record: also keep the scores under this name in the bundle; for a bundle that came with hrda_ros, in its copy in
            $HRDA_MODELS
        command: the command line, for the record
    """

    bundle: Path | None = None
    run: Path | None = None
    network: Literal["student", "teacher"] = "student"
    images: Path | None = None
    labels: Path | None = None
    layout: str = ""
    root: Path | None = None
    split: str = "val"
    list: Path | None = None
    groups: str = ""
    plan: str = ""
    resize: tuple[int, int] | None = None
    backend: str = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    confusion: Path | None = None
    record: str = ""
    command: str = ""

    def __post_init__(self) -> None:
        if (self.bundle is None) == (self.run is None):
            raise RecipeError("give what to score: either --bundle BUNDLE or --run RUN")
        if self.bundle is None and self.record:
            raise RecipeError("--record keeps scores in a bundle; give --bundle, or --json FILE for a run")
        if self.bundle is not None and (self.resize or self.network != "student"):
            raise RecipeError("--resize and --network belong to --run; a bundle has one network and its own size")
        if not self.layout and (self.images is None or self.labels is None):
            raise RecipeError("give the data: --images FOLDER and --labels FOLDER, or --layout NAME and --root FOLDER")
        if self.groups and self.groups not in EVALUATION_GROUPS:
            raise RecipeError(f"--groups '{self.groups}' is not known; choose one of {', '.join(EVALUATION_GROUPS)}")


def main(argv: list[str]) -> int:
    """Parse, score, print a table, write JSON and pictures. Return the exit code."""
    read = {"bundle": model_folder}
    request, json = parse_request(EvaluateRequest, argv, verb="evaluate", about=__doc__, read=read)
    from hrda_core.metrics import score

    if request.confusion:  # what draws it shall not be missed after the scoring
        require("matplotlib", "train")
    pairs = _pairs(request)
    model = _model(request)
    groups = _groups(request.groups, model.space)
    with ProgressPrinter() as printer:
        result = score(lambda rgb: model.predict(rgb).labels, pairs, groups, progress=printer.counter("images"))
    _print_table(result, model)
    origin = {"run": model.name, "network": request.network} if model.bundle is None else {"bundle": model.name}
    values = {**origin, "plan": model.about["plan"], "backend": model.about["backend"], **result.to_dict()}
    if json:
        write_json(json, values)
    if request.confusion:
        from hrda_core.report.figures import draw_confusion

        write_whole(request.confusion, draw_confusion(result.confusion, result.classes))
    if request.record and model.bundle is not None:
        if values["mean_iou"] is None:
            raise DataError("the labels hold no pixel of any class, so there is no score to record; check --labels")
        _record(model.bundle, request.record, values, request.command)
    return 0


def _pairs(request: EvaluateRequest) -> ImageLabelPairs:
    from hrda_core.data.datasets.labelled import open_labelled, pair_folders
    from hrda_core.data.image_files import read_names

    images, labels = request.images, request.labels
    names = None if request.list is None else read_names(request.list)
    if request.layout or images is None or labels is None:
        return open_labelled(request.layout, request.root, request.split, images=images, labels=labels, names=names)
    return pair_folders(images, labels, names=names)


def _model(request: EvaluateRequest) -> Model:
    from .segmentation import open_bundle, open_run

    if request.run is None:
        assert request.bundle is not None
        bundle = _to_record(request.bundle) if request.record else request.bundle
        return open_bundle(bundle, request.backend, request.plan, request.threads)
    return open_run(
        request.run, request.network, request.plan, request.threads, device=request.device, resize=request.resize
    )


def _to_record(bundle: Path) -> Path:
    """The bundle that the scores are kept in; before the scoring, so that a mistake does not wait for its end."""
    from hrda_core.inference.model_folders import changeable

    return changeable(bundle, print)


def _groups(name: str, space: LabelSpace) -> ClassGroups:
    if not name:
        return ClassGroups.of(space)
    if space.classes != CITYSCAPES19.classes:
        raise RecipeError(
            f"--groups '{name}' are groups of the classes of {CITYSCAPES19.name}, but the model's are those of "
            f"'{space.name}'; leave --groups out"
        )
    return EVALUATION_GROUPS[name]


def _record(bundle: Bundle, name: str, values: Mapping[str, Any], command: str) -> None:
    """Keep the scores in the bundle's manifest and model card."""
    from hrda_core.inference.bundle import change_bundle
    from hrda_core.inference.model_card import CARD_NAME, model_card

    kept = {key: value for key, value in values.items() if key not in ("confusion", "classes", "bundle")}

    def with_scores(now: Bundle) -> tuple[Mapping[str, Any], Mapping[str, bytes]]:
        provenance = dict(now.manifest.get("provenance", {}))
        provenance["scores"] = {**provenance.get("scores", {}), name: {**kept, "command": command}}
        manifest = {**now.manifest, "provenance": provenance}
        return manifest, {CARD_NAME: model_card(manifest).encode()}

    change_bundle(bundle.path, with_scores)


def _print_table(result: Evaluation, model: Model) -> None:
    about = model.about
    print(
        f"\n{about['model']}, window plan {about['plan']}, {about['backend']}: {result.images} images, {result.groups}"
    )
    print(f"  {'':<16}{'IoU':>7}{'boundary F':>13}")
    for name, value in result.iou.items():
        print(f"  {name:<16}{_percent(value)}      {_percent(result.class_boundary_f[name])}")
    print(f"  {'mean':<16}{_percent(result.mean_iou)}      {_percent(result.boundary_f)}")
    print(f"  mIoU {_percent(result.mean_iou).strip()}   pixel accuracy {_percent(result.pixel_accuracy).strip()}")


def _percent(value: float | None) -> str:
    return f"{'-':>7}" if value is None or math.isnan(value) else f"{100 * value:5.1f} %"
