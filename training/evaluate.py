"""`hrda evaluate`: score a bundle, or a network of a training run, on labelled images.

    hrda evaluate --bundle models/hrda_lite --images IMAGES --labels LABELS --groups camvid11 --json scores.json
    hrda evaluate --bundle models/yard --images IMAGES --labels LABELS --label_space my_ids.yaml --groups my_groups.yaml
    hrda evaluate --run runs/NAME --network teacher --plan nested --layout cityscapes --root ROOT --split val

Images and labels of two folders are matched by relative name; labels are 8-bit PNGs of the model's class ids (255 = not
labelled), or of the ids of `--label_space`, whose classes are matched with the model's by name. With `--layout` a
public data set is read as downloaded, its native ids translated. A bundle's masks come from the same `Predictor` that
the ROS node uses, a run's from PyTorch. docs/research/evaluation.md says what the scores mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hrda_core.errors import DataError, RecipeError, require
from hrda_core.label_files import find_groups
from hrda_core.label_matching import ids_by_name, only_in, some_names
from hrda_core.labels import LabelSpace
from hrda_core.messages.picture_size import MAX_MEGAPIXELS, check_limit
from hrda_core.whole_files import write_json, write_whole

from .arguments import model_folder, parse_request
from .progress import ProgressPrinter

if TYPE_CHECKING:
    from hrda_core.data.datasets.labelled import ImageLabelPairs
    from hrda_core.inference import Bundle
    from hrda_core.inference.say import Say
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
        which: of a run, the last networks or the best ones that its recipe's keep_best kept
        images: folder of images
        labels: folder of label PNGs with the images' names
        image_suffix: end of the images' names, such as _leftImg8bit.png; default: every image
        label_suffix: what a label has in its place, such as _gtFine_labelIds.png; default: .png
        value_range: of 16-bit pixels of the images, the values that become black and white, such as 0 4095; default:
            the smallest of 8, 10, 12, 14 and 16 bits that holds the values
        max_megapixels: pictures whose header states more million pixels are not decoded
        label_colors: the labels are pictures in the exact colours of the classes, not in their ids
        layout: instead of --images, a data set as downloaded: gta5, synthia, cityscapes, acdc, dark_zurich, bdd100k,
            mapillary, folders
        root: folder of that data set
        split: split of that data set
        list: text file of the images to use, one name on each line
        on_bad: stop = a pair that cannot be used is an error, skip = it is left out and counted
        label_space: label space file of the labels: their ids and classes, which are matched with the model's by name
        groups: score in groups: cityscapes19, synthia16, synthia13, camvid11, idd7, or those of a YAML file; default:
            every class
        plan: window plan; default: the bundle's, or that of the run's own report
        resize: for a run, largest width and height to predict at; default: as the run's own report
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
    which: Literal["last", "best"] = "last"
    images: Path | None = None
    labels: Path | None = None
    image_suffix: str = ""
    label_suffix: str = ""
    value_range: tuple[int, int] | None = None
    max_megapixels: int = MAX_MEGAPIXELS
    label_colors: bool = False
    layout: str = ""
    root: Path | None = None
    split: str = "val"
    list: Path | None = None
    on_bad: Literal["stop", "skip"] = "stop"
    label_space: Path | None = None
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
        check_limit(self.max_megapixels)
        if (self.bundle is None) == (self.run is None):
            raise RecipeError("give what to score: either --bundle BUNDLE or --run RUN")
        if self.bundle is None and self.record:
            raise RecipeError("--record keeps scores in a bundle; give --bundle, or --json FILE for a run")
        if self.bundle is not None and (self.resize or self.network != "student" or self.which != "last"):
            raise RecipeError(
                "--resize, --network and --which belong to --run; a bundle has one network and its own size"
            )
        if not self.layout and (self.images is None or self.labels is None):
            raise RecipeError("give the data: --images FOLDER and --labels FOLDER, or --layout NAME and --root FOLDER")


def main(argv: list[str]) -> int:
    """Parse, score, print a table, write JSON and pictures. Return the exit code."""
    read = {"bundle": model_folder}
    request, json = parse_request(EvaluateRequest, argv, verb="evaluate", about=__doc__, read=read)
    from hrda_core.data.datasets.checked_labels import check_labels
    from hrda_core.metrics import score

    if request.confusion:  # what draws it shall not be missed after the scoring
        require("matplotlib", "train")
    model = _model(request, ProgressPrinter().say)
    groups = find_groups(request.groups, model.space)
    pairs = _pairs(request, model.space)
    with ProgressPrinter() as printer:
        count = printer.counter("label files counted")
        checked = check_labels(pairs, model.space, on_bad=request.on_bad, scored=True, count=count)
        for sentence in checked.audit.remarks:
            printer.say(sentence)
        kept_in = _to_record(request.bundle) if request.record and request.bundle is not None else None
        counter = printer.counter("images")
        result = score(lambda rgb: model.predict(rgb).labels, checked.pairs, groups, progress=counter)
    _print_table(result, model)
    origin = (
        {"run": model.name, "network": request.network, "which": request.which}
        if model.bundle is None
        else {"bundle": model.name}
    )
    values = {
        **origin,
        "plan": model.about["plan"],
        "scale": model.about["scale"],
        "backend": model.about["backend"],
        **result.to_dict(),
    }
    if json:
        write_json(json, values)
    if request.confusion:
        from hrda_core.report.figures import draw_confusion

        write_whole(request.confusion, draw_confusion(result.confusion, result.classes))
    if kept_in is not None:
        if values["mean_iou"] is None:
            raise DataError("the labels hold no pixel of any class, so there is no score to record; check --labels")
        _record(kept_in, request.record, values, request.command, model)
    return 0


def _pairs(request: EvaluateRequest, space: LabelSpace) -> ImageLabelPairs:
    """The images, and labels in the classes of the model."""
    from hrda_core.data.datasets.folder_files import FolderFiles
    from hrda_core.data.datasets.labelled import declared_space, open_labelled
    from hrda_core.data.datasets.layouts import FOLDERS
    from hrda_core.data.image_files import read_names
    from hrda_core.messages.value_range import range_of

    images, labels = request.images, request.labels
    names = None if request.list is None else read_names(request.list)
    pairs = open_labelled(
        request.layout or FOLDERS,
        request.root,
        request.split if request.layout else "",
        label_space=request.label_space,
        space=space,
        images=images,
        labels=labels,
        names=names,
        on_bad=request.on_bad,
        files=FolderFiles(request.image_suffix, request.label_suffix, request.label_colors),
        value_range=range_of(request.value_range),
        max_megapixels=request.max_megapixels,
    )
    declared = declared_space(request.layout, request.label_space, space)
    _say_difference(declared, space)
    return replace(pairs, ids=ids_by_name(declared, pairs.ids, space))


def _say_difference(declared: LabelSpace, space: LabelSpace) -> None:
    """Say which classes labels or model lack; refuse where nothing is left to score."""
    more, less = only_in(declared, space), only_in(space, declared)
    if len(more) == len(declared):
        raise DataError(
            f"labels and model have no class of the same name: '{declared.name}' has {some_names(more)}, the model "
            f"{some_names(less)}; give --label_space FILE whose ids lead to classes of the model"
        )
    if more:
        print(f"labels of {some_names(more)} are not scored: the model has no such class")
    if less:
        print(f"no labels of {some_names(less)}: where the model predicts these, it counts as wrong")


def _model(request: EvaluateRequest, say: Say) -> Model:
    from .segmentation import open_bundle, open_run

    if request.run is None:
        assert request.bundle is not None
        return open_bundle(request.bundle, request.backend, request.plan, request.threads, say=say)
    return open_run(
        request.run,
        request.network,
        request.plan,
        request.threads,
        which=request.which,
        device=request.device,
        resize=request.resize,
        say=say,
    )


def _to_record(bundle: Path) -> Path:
    """The bundle that the scores are kept in; before the scoring, so that a mistake does not wait for its end."""
    from hrda_core.inference.model_folders import changeable

    return changeable(bundle, print)


def _record(bundle: Path, name: str, values: Mapping[str, Any], command: str, scored: Model) -> None:
    """Keep the scores in the bundle's manifest and model card, unless another model has taken its place meanwhile."""
    from hrda_core.inference.bundle import change_bundle
    from hrda_core.inference.model_card import CARD_NAME, model_card

    kept = {key: value for key, value in values.items() if key not in ("confusion", "classes", "bundle")}

    def with_scores(now: Bundle) -> tuple[Mapping[str, Any], Mapping[str, bytes]]:
        plan = values["plan"]
        if scored.bundle is None or _graph(now, plan) != _graph(scored.bundle, plan):
            raise DataError(
                f"bundle '{bundle}' was replaced while it was scored: nothing is recorded, since the scores are of the "
                f"model before; score it again"
            )
        provenance = dict(now.manifest.get("provenance", {}))
        provenance["scores"] = {**provenance.get("scores", {}), name: {**kept, "command": command}}
        manifest = {**now.manifest, "provenance": provenance}
        return manifest, {CARD_NAME: model_card(manifest).encode()}

    change_bundle(bundle, with_scores)


def _graph(bundle: Bundle, plan: str) -> object:
    """What of a bundle decides on the masks of a window plan."""
    graph = bundle.graphs.get(plan)
    return graph and (graph, bundle.manifest["files"].get(graph.file), bundle.scale)


def _print_table(result: Evaluation, model: Model) -> None:
    about = model.about
    print(
        f"\n{about['model']}, window plan {about['plan']}, {about['backend']}: {result.images} images, {result.groups}"
    )
    print(f"{model.scale}")
    print(f"  {'':<16}{'IoU':>7}{'boundary F':>13}")
    for name, value in result.iou.items():
        print(f"  {name:<16}{_percent(value)}      {_percent(result.class_boundary_f[name])}")
    print(f"  {'mean':<16}{_percent(result.mean_iou)}      {_percent(result.boundary_f)}")
    print(f"  mIoU {_percent(result.mean_iou).strip()}   pixel accuracy {_percent(result.pixel_accuracy).strip()}")


def _percent(value: float | None) -> str:
    return f"{'-':>7}" if value is None or math.isnan(value) else f"{100 * value:5.1f} %"
