"""`hrda predict`: segment recordings, images or a video with a model bundle.

    hrda predict drive_bag --model models/hrda_lite --out drive_masks              a recording of mask topics
    hrda predict pictures/ --model models/hrda_lite --out masks --outputs labels,color,overlay
    hrda predict drive.mp4 --model runs/NAME --network teacher --out masks         also overlay.mp4

Masks come from the same decoders and the same `Predictor` as the node's, so they are the same bytes. A recording of
masks has the topics CAMERA/segmentation/labels, confidence, color, overlay and the latched label_info, with the stamps
and frame ids of the camera images. The result is written to OUT.part and renamed when it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2

from hrda_core.data.image_files import IMAGE_SUFFIXES
from hrda_core.data.open_frames import VIDEO_SUFFIXES
from hrda_core.data.recordings.recording_files import SUFFIXES as RECORDING_SUFFIXES
from hrda_core.data.recordings.recording_files import storage_kind
from hrda_core.errors import DataError, RecipeError, require
from hrda_core.inference.overlay import OUTPUTS
from hrda_core.memory import keep_big_buffers
from hrda_core.whole_files import replaced_folder, unfinished, write_json

from .arguments import parse
from .segmentation import Model, Tally, open_bundle, open_run

__all__ = ["main"]

MARKER = "predict.json"
"""A folder with this file is a result of this command and may be replaced by another."""

_USUAL_OUTPUTS = {"recordings": "labels,confidence", "images": "labels,overlay", "videos": "labels,overlay"}


def main(argv: list[str]) -> int:
    """Parse, segment, say what was written. Returns the exit code."""
    options = parse(_parser(), argv)
    keep_big_buffers()
    kind = _kind_of_all(options.input)
    outputs = _outputs(options, kind)
    _check(options, kind)
    cv2.setNumThreads(max(1, options.threads))  # OpenCV shares the cores with the back end, as in the node
    model = _open_model(options, outputs)
    tally = Tally()
    result = _predict(kind, options, outputs, model, tally)
    result = {**model.about, "kind": kind, "out": str(options.out), **tally.to_dict(), **result}
    _print(result)
    if options.json:
        write_json(options.json, result)
    return 0


def _parser() -> Any:
    jsonargparse = require("jsonargparse", "train")
    parser = jsonargparse.ArgumentParser(prog="hrda predict", description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path, nargs="+", help="recordings, image files and folders, or videos")
    parser.add_argument("--model", type=Path, required=True, help="model bundle, or folder of a training run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result; an earlier result is replaced")
    parser.add_argument("--topic", type=str, nargs="+", default=[], help="image topics of recordings; default: the one")
    parser.add_argument("--plan", type=str, default="", help="window plan; default: the model's")
    parser.add_argument("--backend", type=str, default="auto", help="inference back end of a bundle")
    parser.add_argument(
        "--long_side",
        type=int,
        default=-1,
        help="shrink larger images to this first, pixels; 0 = never, -1 = the bundle's",
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = all cores but one")
    parser.add_argument(
        "--outputs",
        type=str,
        default="",
        help=f"of {','.join(OUTPUTS)}; default: "
        f"{_USUAL_OUTPUTS['recordings']} for recordings, {_USUAL_OUTPUTS['images']} else",
    )
    parser.add_argument("--overlay_alpha", type=float, default=0.5, help="weight of the colours in overlays, 0 to 1")
    parser.add_argument("--network", type=str, default="student", help="of a run: student or teacher")
    parser.add_argument("--copy_camera", action="store_true", help="copy the camera images into the recording of masks")
    parser.add_argument("--resume", action="store_true", help="keep what an interrupted call for images has finished")
    parser.add_argument("--json", type=Path, default=None, help="write the result here")
    return parser


def _outputs(options: Any, kind: str) -> tuple[str, ...]:
    names = {name.strip() for name in (options.outputs or _USUAL_OUTPUTS[kind]).split(",")}
    unknown = sorted(names - set(OUTPUTS))
    if unknown:
        raise RecipeError(f"--outputs '{','.join(unknown)}' is not known; choose some of {','.join(OUTPUTS)}")
    if not options.outputs and _is_run(options.model):
        names.discard("confidence")
    return tuple(name for name in OUTPUTS if name in names)


def _check(options: Any, kind: str) -> None:
    if not 0 <= options.overlay_alpha <= 1:
        raise RecipeError(f"--overlay_alpha is a weight from 0 to 1, not {options.overlay_alpha}")
    if options.long_side < -1:
        raise RecipeError(f"--long_side is a number of pixels, 0 or -1, not {options.long_side}")
    if kind != "recordings" and (options.topic or options.copy_camera):
        raise RecipeError(f"--topic and --copy_camera belong to recordings; the input is {kind}")
    if kind != "images" and options.resume:
        raise RecipeError(f"--resume goes on with image files; the input is {kind}, leave it out to start over")
    out = options.out.absolute()
    for path in options.input:
        if out == path.absolute() or out in path.absolute().parents:
            raise RecipeError(f"--out '{options.out}' is or holds the input '{path}'; give another folder")


def _open_model(options: Any, outputs: Sequence[str]) -> Model:
    if not _is_run(options.model):
        if options.network != "student":
            raise RecipeError("--network belongs to the folder of a training run; a bundle has one network")
        return open_bundle(options.model, options.backend, options.plan, options.long_side, options.threads)
    if "confidence" in outputs or options.long_side != -1 or options.backend != "auto":
        raise RecipeError(
            "a training run gives no confidence and takes neither --long_side nor --backend; "
            "choose --outputs without it, or export the run with 'hrda export'"
        )
    return open_run(options.model, options.network, options.plan, options.threads)


def _is_run(model: Path) -> bool:
    return (model / "recipe.yaml").is_file()


def _predict(kind: str, options: Any, outputs: Sequence[str], model: Model, tally: Tally) -> dict[str, Any]:
    about = {key: value for key, value in model.about.items() if key != "backend"}
    settings = {**about, "outputs": ",".join(outputs), "overlay_alpha": options.overlay_alpha}
    if options.resume:
        _check_begun(options.out, settings)
    keep = kind == "images"
    with replaced_folder(options.out, MARKER, about=settings, resume=options.resume, keep=keep) as folder:
        if kind == "recordings":
            result = _predict_recordings(options, outputs, folder, model, tally)
        else:
            result = _predict_pictures(kind, options, outputs, folder, model, tally)
        if not tally.written and not result.get("skipped"):
            first = f"; the first: {tally.named[0]['name']}: {tally.named[0]['reason']}" if tally.named else ""
            raise DataError(f"none of {tally.frames} frames could be read, so nothing was written{first}")
        if kind != "recordings":
            write_json(folder / "classes.json", json.loads(model.label_info))
        write_json(folder / MARKER, settings)
    return result


def _check_begun(out: Path, settings: Mapping[str, Any]) -> None:
    before = unfinished(out)
    other = [key for key in settings if before is not None and before.get(key) != settings[key]]
    if other:
        raise RecipeError(
            f"the interrupted call for '{out}' was begun with another {', '.join(other)}; leave --resume out to start "
            f"over, or give the same options"
        )


def _predict_recordings(
    options: Any, outputs: Sequence[str], folder: Path, model: Model, tally: Tally
) -> dict[str, Any]:
    from hrda_core.data.recordings.recordings import Recordings

    from .predict_recordings import predict_recordings

    return predict_recordings(
        Recordings.open(options.input, options.topic),
        folder,
        model,
        tally,
        outputs=outputs,
        overlay_alpha=options.overlay_alpha,
        copy_camera=options.copy_camera,
    )


def _predict_pictures(
    kind: str, options: Any, outputs: Sequence[str], folder: Path, model: Model, tally: Tally
) -> dict[str, Any]:
    from .predict_pictures import MaskFiles, predict_images, predict_videos

    table = model.space.color_table()
    files = MaskFiles(folder, outputs, table, options.overlay_alpha)
    if kind == "images":
        return {"skipped": predict_images(options.input, options.out, files, model, tally, resume=options.resume)}
    return {"remarks": predict_videos(options.input, files, model, tally)}


def _kind_of_all(paths: Sequence[Path]) -> str:
    kinds = {_kind(path) for path in paths}
    if len(kinds) > 1:
        raise DataError(f"the input is a mixture of {' and '.join(sorted(kinds))}; segment them one kind at a time")
    return kinds.pop()


def _kind(path: Path) -> str:
    """`recordings`, `images` or `videos`: of a folder, what lies in it or, where it is no recording, below it."""
    if not path.exists():
        raise DataError(f"'{path}' does not exist; give recordings, image files and folders, or videos")
    if not path.is_dir():
        return _kind_of_file(path)
    if any(entry.name == "metadata.yaml" or storage_kind(entry) for entry in path.iterdir()):
        return "recordings"
    kinds = {_kind_of_file(entry, refuse=False) for entry in path.rglob("*") if entry.is_file()}
    for kind in ("images", "recordings"):
        if kind in kinds:
            return kind
    raise DataError(f"folder '{path}' holds neither images ({' '.join(IMAGE_SUFFIXES)}) nor recordings; give another")


def _kind_of_file(path: Path, *, refuse: bool = True) -> str:
    suffix = path.suffix.lower()
    if storage_kind(path):
        return "recordings"
    if suffix in IMAGE_SUFFIXES:
        return "images"
    if suffix in VIDEO_SUFFIXES:
        return "videos"
    if refuse:
        raise DataError(
            f"'{path}' is no input by its name; expected recordings ({' '.join(RECORDING_SUFFIXES)}, or a folder), "
            f"images ({' '.join(IMAGE_SUFFIXES)}) or videos ({' '.join(VIDEO_SUFFIXES)})"
        )
    return ""


def _print(result: dict[str, Any]) -> None:
    print(f"{result['model']}, window plan {result['plan']}, {result['backend']}")
    rate = f", {result['frames_per_s']:.1f} frames/s" if result["frames_per_s"] else ""
    skipped = f", {result['skipped']} were finished before" if result.get("skipped") else ""
    print(f"{result['written']} frames segmented in {result['seconds']:.1f} s{rate}{skipped}")
    for part in result.get("salvage", ()):
        lost = "an unknown number" if part["lost"] is None else part["lost"]
        print(f"damaged: '{part['recording']}': {part['kept']} images read, {lost} lost ({part['reason']})")
    if result["unreadable"]:
        print(f"left out because they cannot be read: {result['unreadable']}; the first of them:")
        for entry in result["unreadable_first"][:3]:
            print(f"  {entry['name']}: {entry['reason']}")
    for remark in result.get("remarks", ()):
        print(remark)
    for topic, base in result.get("cameras", {}).items():
        print(f"{topic} -> {base}")
    print(f"written: {result['out']}")
