"""`hrda predict`: segment recordings, images or a video with a model bundle.

    hrda predict drive_bag --model models/hrda_lite --out drive_masks              a recording of mask topics
    hrda predict pictures/ --model models/hrda_lite --out masks --outputs labels,color,overlay
    hrda predict drive.mp4 --model runs/NAME --network teacher --out masks         also overlay.mp4
    hrda predict data/acdc --model runs/NAME --for acdc --out acdc_masks           as the test server wants them

Masks come from the same decoders and the same `Predictor` as the node's, so they are the same bytes. A recording of
masks has the topics CAMERA/segmentation/labels, confidence, color, overlay and the latched label_info, with the stamps
and frame ids of the camera images. The result is written to OUT.part and renamed when it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.camera_areas import CameraArea, CameraAreas
from hrda_core.data.datasets.servers import SERVERS, Server
from hrda_core.data.frames import find_images
from hrda_core.errors import DataError, RecipeError, proposal, shown
from hrda_core.inference import Prediction
from hrda_core.inference.overlay import OUTPUTS, draw_outputs
from hrda_core.memory import keep_big_buffers
from hrda_core.messages.picture_size import MAX_MEGAPIXELS, check_limit
from hrda_core.messages.value_range import range_of
from hrda_core.whole_files import replaced_folder, unfinished, write_json

from .arguments import model_folder, parse_request
from .predict_kinds import kind_of_all
from .predict_pictures import MaskFiles, ServerFiles, predict_images, predict_videos
from .progress import ProgressPrinter
from .segmentation import Model, Pictures, Segment, Tally, open_bundle, open_run

__all__ = ["PredictRequest", "main"]

UInt8Array = npt.NDArray[np.uint8]

MARKER = "predict.json"
"""A folder with this file is a result of this command and may be replaced by another."""

_USUAL_OUTPUTS = {
    "recordings": ("labels", "confidence"),
    "images": ("labels", "overlay"),
    "videos": ("labels", "overlay"),
}


@dataclass(frozen=True)
class PredictRequest:
    """The input, the model, and the results to write.

    Attributes:
        input: recordings, image files and folders, or videos
        model: model bundle or its name ('hrda models'), or folder of a training run
        out: folder of the result; an earlier result is replaced
        topic: image topics of recordings; default: the only one
        value_range: of 16-bit pixels, the values that become black and white, such as 0 4095; default: the smallest of
            8, 10, 12, 14 and 16 bits that holds the values
        max_megapixels: pictures whose header states more million pixels are not decoded
        camera_areas: file that says which pixels of each camera's pictures count, the same as for the node; the others
            get class 255 and confidence 0. For images and videos, a file of one camera
        plan: window plan; default: the model's, or that of the run's own report
        backend: inference back end of a bundle
        long_side: shrink larger images to this first, pixels; 0 = never, -1 = as the model says
        threads: CPU threads; 0 = all cores but one
        for_: test server that the masks are for: cityscapes, acdc, dark_zurich; its file names and ids
        outputs: some of labels,color,overlay,confidence; default: labels,confidence for recordings, else labels,overlay
        overlay_alpha: weight of the colours in overlays, 0 to 1
        network: network of a run
        which: of a run, the last networks or the best ones that its recipe's keep_best kept
        copy_camera: copy the camera images into the recording of masks
        resume: keep what an interrupted call for images has finished
    """

    input: tuple[Path, ...]
    model: Path
    out: Path
    topic: tuple[str, ...] = ()
    value_range: tuple[int, int] | None = None
    max_megapixels: int = MAX_MEGAPIXELS
    camera_areas: Path | None = None
    plan: str = ""
    backend: str = "auto"
    long_side: int = -1
    threads: int = 0
    for_: str = ""
    outputs: str = ""
    overlay_alpha: float = 0.5
    network: Literal["student", "teacher"] = "student"
    which: Literal["last", "best"] = "last"
    copy_camera: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        check_limit(self.max_megapixels)
        range_of(self.value_range)  # a mistake shall not wait for the model to be opened
        if unknown := sorted(self.named_outputs - set(OUTPUTS)):
            raise RecipeError(f"--outputs '{','.join(unknown)}' is not known; choose some of {','.join(OUTPUTS)}")
        if self.for_ and self.for_ not in SERVERS:
            raise RecipeError(f"--for '{self.for_}' is not known; {proposal(self.for_, SERVERS)}")
        if self.for_ and self.outputs:
            raise RecipeError("--for says which files are written; leave --outputs out")
        if self.for_ and self.camera_areas:
            raise RecipeError("--for is for a test server, which scores every pixel; leave --camera_areas out")
        if not 0 <= self.overlay_alpha <= 1:
            raise RecipeError(f"--overlay_alpha is a weight from 0 to 1, not {self.overlay_alpha}")
        if self.long_side < -1:
            raise RecipeError(f"--long_side is a number of pixels, 0 or -1, not {self.long_side}")
        out = self.out.absolute()
        for path in self.input:
            if out == path.absolute() or out in path.absolute().parents:
                raise RecipeError(f"--out '{self.out}' is or holds the input '{path}'; give another folder")

    @property
    def named_outputs(self) -> set[str]:
        """Outputs that the option names."""
        return {name.strip() for name in self.outputs.split(",")} if self.outputs else set()

    @property
    def server(self) -> Server | None:
        """The test server that the masks are for."""
        return SERVERS[self.for_] if self.for_ else None

    @cached_property
    def areas(self) -> CameraAreas | None:
        """What of each camera's pictures counts; None = all.

        Raises:
            DataError: see `CameraAreas.read`.
        """
        return None if self.camera_areas is None else CameraAreas.read(self.camera_areas)

    @property
    def of_run(self) -> bool:
        """Whether the model is a training run, not a bundle."""
        return (self.model / "recipe.yaml").is_file()


def main(argv: list[str]) -> int:
    """Parse, segment, and report what was written. Return the exit code."""
    read = {"model": model_folder}
    request, json_file = parse_request(
        PredictRequest, argv, verb="predict", about=__doc__, positional="input", read=read
    )
    keep_big_buffers()
    kind = kind_of_all(request.input)
    _check(request, kind)
    outputs = _outputs(request, kind)
    cv2.setNumThreads(max(1, request.threads))  # OpenCV shares the cores with the back end, as in the node
    model = _model(request, outputs)
    tally = Tally()
    result = _predict(kind, request, outputs, model, tally)
    result = {**model.about, "kind": kind, "out": str(request.out), **tally.to_dict(), **result}
    _print(result, model, request.server)
    if json_file:
        write_json(json_file, result)
    return 0


def _outputs(request: PredictRequest, kind: str) -> tuple[str, ...]:
    if request.server is not None:
        return ("labels", "confidence") if request.server.confidence and not request.of_run else ("labels",)
    names = request.named_outputs or set(_USUAL_OUTPUTS[kind]) - ({"confidence"} if request.of_run else set())
    return tuple(name for name in OUTPUTS if name in names)


def _check(request: PredictRequest, kind: str) -> None:
    if kind != "recordings" and (request.topic or request.copy_camera):
        raise RecipeError(f"--topic and --copy_camera belong to recordings; the input is {kind}")
    if kind != "images" and request.server is not None:
        raise RecipeError(f"--for is for the images of a data set; the input is {kind}")
    if kind != "images" and request.resume:
        raise RecipeError(f"--resume goes on with image files; the input is {kind}, leave it out to start over")
    if kind != "recordings" and request.areas is not None and len(request.areas.areas) != 1:
        raise DataError(
            f"--camera_areas '{request.camera_areas}' is for {len(request.areas.areas)} cameras, and {kind} do not say "
            f"which one took them; give a file of one camera"
        )


def _model(request: PredictRequest, outputs: Sequence[str]) -> Model:
    long_side, say = request.long_side, ProgressPrinter().say
    if not request.of_run:
        if request.network != "student" or request.which != "last":
            raise RecipeError("--network and --which belong to the folder of a training run; a bundle has one network")
        return open_bundle(request.model, request.backend, request.plan, request.threads, long_side=long_side, say=say)
    if "confidence" in outputs or request.backend != "auto":
        raise RecipeError(
            "a training run gives no confidence and takes no --backend; choose --outputs without it, or export the run "
            "with 'hrda export'"
        )
    network, plan, threads = request.network, request.plan, request.threads
    return open_run(request.model, network, plan, threads, which=request.which, long_side=long_side, say=say)


def _predict(kind: str, request: PredictRequest, outputs: Sequence[str], model: Model, tally: Tally) -> dict[str, Any]:
    about = {key: value for key, value in model.about.items() if key != "backend"}
    settings = {**about, "for": request.for_, "outputs": ",".join(outputs), "overlay_alpha": request.overlay_alpha}
    if request.value_range:
        settings["value_range"] = list(request.value_range)
    if request.areas:
        settings["camera_areas"] = request.areas.digest
    if request.resume:
        _check_begun(request.out, settings)
    table, server = model.space.color_table(), request.server
    paths = request.input if server is None else server.images(request.input)
    ids = None if server is None else server.ids(model.space)

    def segment(rgb: UInt8Array, area: CameraArea | None) -> Pictures:
        prediction = model.predict(rgb)
        if area is not None:
            prediction = Prediction(*area.mask(prediction.labels, prediction.confidence))
        return draw_outputs(rgb, prediction, outputs, table, request.overlay_alpha)

    keep = kind == "images"
    with replaced_folder(request.out, MARKER, about=settings, resume=request.resume, keep=keep) as folder:
        if kind == "recordings":
            result = _predict_recordings(request, folder, segment, model.label_info, tally)
        else:
            plain = MaskFiles(folder, outputs)
            files = plain if server is None or ids is None else ServerFiles(folder, server, ids)
            result = _predict_pictures(kind, request, paths, files, segment, tally)
        if not tally.written and not result.get("skipped"):
            first = f"; the first: {tally.named[0]['name']}: {tally.named[0]['reason']}" if tally.named else ""
            raise DataError(f"none of {tally.frames} frames could be read, so nothing was written{first}")
        if kind != "recordings":
            write_json(folder / "classes.json", json.loads(model.label_info))
        write_json(folder / MARKER, settings)
    return result


def _check_begun(out: Path, settings: Mapping[str, Any]) -> None:
    before = unfinished(out)
    keys = {} if before is None else {**settings, **before}
    other = [key for key in keys if before is not None and before.get(key) != settings.get(key)]
    if other:
        raise RecipeError(
            f"the interrupted call for '{out}' was begun with another {', '.join(other)}; leave --resume out to start "
            f"over, or give the same options"
        )


def _predict_recordings(
    request: PredictRequest, folder: Path, segment: Segment, label_info: str, tally: Tally
) -> dict[str, Any]:
    from hrda_core.data.recordings.recordings import Recordings

    from .predict_recordings import predict_recordings

    recordings = Recordings.open(
        request.input,
        request.topic,
        value_range=range_of(request.value_range),
        max_megapixels=request.max_megapixels,
    )
    return predict_recordings(
        recordings,
        folder,
        segment,
        tally,
        label_info=label_info,
        copy_camera=request.copy_camera,
        areas=request.areas,
    )


def _predict_pictures(
    kind: str,
    request: PredictRequest,
    paths: Sequence[Path],
    files: MaskFiles | ServerFiles,
    segment: Segment,
    tally: Tally,
) -> dict[str, Any]:
    area = None if request.areas is None else next(iter(request.areas.areas.values()))
    if kind == "images":
        given, remarks = range_of(request.value_range), []
        remarks += [f"left out: {text}" for path in paths if path.is_dir() if (text := find_images(path)[1])]
        skipped = predict_images(
            paths,
            request.out,
            files,
            segment,
            tally,
            resume=request.resume,
            given=given,
            say=remarks.append,
            max_megapixels=request.max_megapixels,
            area=area,
        )
        return {"skipped": skipped, "remarks": remarks}
    assert isinstance(files, MaskFiles)
    return {"remarks": predict_videos(paths, files, segment, tally, request.max_megapixels, area)}


def _print(result: dict[str, Any], model: Model, server: Server | None) -> None:
    print(f"{result['model']}, window plan {result['plan']}, {result['backend']}; {model.scale}")
    rate = f", {result['frames_per_s']:.1f} frames/s" if result["frames_per_s"] else ""
    skipped = f", {result['skipped']} were finished before" if result.get("skipped") else ""
    print(f"{result['written']} frames segmented in {result['seconds']:.1f} s{rate}{skipped}")
    for part in result.get("salvage", ()):
        lost = "an unknown number" if part["lost"] is None else part["lost"]
        print(f"damaged: '{part['recording']}': {part['kept']} images read, {lost} lost ({part['reason']})")
    if result["unreadable"]:
        print(f"left out because they cannot be read: {result['unreadable']}; the first of them:")
        for entry in result["unreadable_first"][:3]:
            print(f"  {shown(entry['name'])}: {shown(entry['reason'], 500)}")
    for remark in result.get("remarks", ()):
        print(remark)
    for topic, base in result.get("cameras", {}).items():
        print(f"{shown(topic)} -> {shown(base)}")
    print(f"written: {result['out']}")
    if server is not None:
        folders = " ".join(filter(None, [*server.folders, server.confidence]))
        print(f"to upload: cd {result['out']} && zip -qr {server.layout}.zip {folders}")
