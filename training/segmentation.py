"""Segments a stream of frames: the next frame is read while one is inferred, and unreadable frames are left out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
import numpy.typing as npt

from hrda_core.camera_areas import CameraArea
from hrda_core.errors import DataError, ImageError, require
from hrda_core.inference import Bundle, Prediction, Predictor
from hrda_core.inference.bundle import MANIFEST_NAME, file_record
from hrda_core.inference.label_info import label_info_json
from hrda_core.inference.say import Say, silent
from hrda_core.input_scale import InputScale
from hrda_core.labels import LabelSpace

from .progress import ProgressPrinter

__all__ = ["Model", "Pictures", "Segment", "Tally", "open_bundle", "open_run", "segmented"]

UInt8Array = npt.NDArray[np.uint8]
Pictures: TypeAlias = Mapping[str, UInt8Array]
"""What is written of an image, by output: `labels`, `confidence` uint8 (H, W); `color`, `overlay` RGB (H, W, 3)."""
Segment: TypeAlias = Callable[[UInt8Array, CameraArea | None], Pictures]
"""RGB uint8 (H, W, 3), and what of it counts, None = all -> what is written of it."""
Frame = TypeVar("Frame")
Item = TypeVar("Item")

_AHEAD = 2
"""Frames that are read ahead of the one at hand; each takes the memory of an image."""

_MOST_NAMED = 20
"""Frames left out that are listed with their reason; the others are only counted."""


@dataclass(frozen=True)
class Model:
    """The model that segments.

    Attributes:
        name: name of the bundle or the run.
        predict: RGB uint8 (H, W, 3) -> masks.
        space: classes of the mask ids.
        label_info: JSON text about them, as the node publishes it.
        about: name, sha256, window plan, scale and back end, for the result.
        scale: how images are resized before the network sees them.
        bundle: None for a run.
    """

    name: str
    predict: Callable[[UInt8Array], Prediction]
    space: LabelSpace
    label_info: str
    about: Mapping[str, Any]
    scale: InputScale
    bundle: Bundle | None = None


@dataclass
class Tally:
    """What became of the frames.

    Attributes:
        total: number of frames, as far as the input says; 0 = unknown.
        frames: number of frames read or found unreadable so far.
        written: number of frames segmented.
        unreadable: number of frames left out.
        named: name and reason of the first few of these.
        seconds: seconds since the start.
    """

    total: int = 0
    frames: int = 0
    written: int = 0
    unreadable: int = 0
    named: list[dict[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def leave_out(self, name: str, reason: str) -> None:
        """Count a frame that cannot be read."""
        self.unreadable += 1
        if len(self.named) < _MOST_NAMED:
            self.named.append({"name": name, "reason": reason})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the JSON result."""
        return {
            "frames": self.frames,
            "written": self.written,
            "unreadable": self.unreadable,
            "unreadable_first": self.named,
            "seconds": round(self.seconds, 3),
            "frames_per_s": round(self.written / self.seconds, 3) if self.seconds else None,
        }


def open_bundle(path: Path, backend: str, plan: str, threads: int, *, long_side: int = -1, say: Say = silent) -> Model:
    """Open a bundle as the node does. `long_side` below 0 and an empty `plan` mean the bundle's values."""
    side = None if long_side < 0 else long_side
    predictor = Predictor(path, backend, plan or None, long_side=side, threads=threads, say=say)
    bundle = predictor.bundle
    about = {
        "model": bundle.name,
        # The manifest holds the hashes of all other files, so its own stands for the whole bundle.
        "sha256": file_record(bundle.file(MANIFEST_NAME))["sha256"],
        "plan": predictor.plan,
        "scale": predictor.scale.to_dict(),
        "backend": predictor.backend_info.what if predictor.backend_info else "",
    }
    info = label_info_json(bundle.label_space, model=bundle.name, preset=bundle.preset, plan=predictor.plan)
    return Model(bundle.name, predictor, bundle.label_space, info, about, predictor.scale, bundle)


def open_run(
    run: Path,
    network: str,
    plan: str,
    threads: int,
    *,
    which: str = "last",
    device: str = "auto",
    resize: tuple[int, int] | None = None,
    long_side: int = -1,
    say: Say = silent,
) -> Model:
    """Open a network of a training run in PyTorch; it gives no confidence. `RunPredictor` explains the arguments.

    `long_side` below 0 means the run's value.
    """
    torch = require("torch", "train")
    from hrda_core.trainer.best import BEST_NAME
    from hrda_core.trainer.checkpoint import CHECKPOINT_NAME
    from hrda_core.trainer.loading import load_recipe
    from hrda_core.trainer.spaces import recipe_space
    from hrda_core.trainer.state import WEIGHTS_NAME

    from .run_predictor import RunPredictor

    torch.set_num_threads(threads or max(1, torch.get_num_threads() - 1))
    side = None if long_side < 0 else long_side
    predictor = RunPredictor(run, network, plan, which=which, device=device, resize=resize, long_side=side, say=say)
    weights = run / WEIGHTS_NAME
    if which == "best":
        weights = run / BEST_NAME
    elif network != "student" or not weights.is_file():
        weights = run / CHECKPOINT_NAME
    about = {
        "model": f"{predictor.name} ({'best ' * (which == 'best')}{network})",
        "sha256": file_record(weights)["sha256"],
        "plan": predictor.plan,
        "scale": predictor.scale.to_dict(),
        "backend": predictor.description,
    }
    recipe = load_recipe(run)
    space = recipe_space(recipe)
    info = label_info_json(space, model=predictor.name, preset=recipe.model.preset, plan=predictor.plan)
    nothing = np.empty((0, 0), np.uint8)
    return Model(
        predictor.name,
        lambda rgb: Prediction(predictor(rgb), nothing),
        space,
        info,
        about,
        predictor.scale,
    )


def segmented(
    frames: Iterator[Frame],
    read: Callable[[Frame], UInt8Array],
    name: Callable[[Frame], str],
    segment: Segment,
    tally: Tally,
    area: Callable[[Frame], CameraArea | None] = lambda frame: None,
) -> Generator[tuple[Frame, Pictures | None], None, None]:
    """Yield every frame with its outputs, or with None if it cannot be read.

    Args:
        frames: frames in the order of the result; used in another thread, from its first item to its end.
        read: returns the pixels of a frame, in that thread too; ImageError or DataError leaves the frame out.
        name: returns the name of a frame, for the list of those that were left out.
        segment: makes the outputs of an image.
        tally: is kept up to date.
        area: returns what of a frame counts; a frame of another size is left out.
    """

    def read_checked(frame: Frame) -> UInt8Array:
        rgb = read(frame)
        if (counting := area(frame)) is not None:
            counting.check(*rgb.shape[:2])
        return rgb

    begin = time.monotonic()
    with ProgressPrinter() as printer, closing(_ahead(_readings(frames, read_checked))) as readings:
        for frame, rgb in readings:
            result = None
            tally.frames += 1
            if isinstance(rgb, (ImageError, DataError)):
                tally.leave_out(name(frame), str(rgb))
            else:
                result = segment(rgb, area(frame))
                tally.written += 1
            yield frame, result
            tally.seconds = time.monotonic() - begin
            printer.count("frames", tally.frames, tally.total)


def _readings(
    frames: Iterator[Frame], read: Callable[[Frame], UInt8Array]
) -> Generator[tuple[Frame, UInt8Array | ImageError | DataError], None, None]:
    try:
        for frame in frames:
            yield frame, _read(read, frame)
    finally:
        if isinstance(frames, Generator):
            frames.close()


def _read(read: Callable[[Frame], UInt8Array], frame: Frame) -> UInt8Array | ImageError | DataError:
    try:
        return read(frame)
    except (ImageError, DataError) as error:
        return error


def _ahead(items: Generator[Item, None, None]) -> Generator[Item, None, None]:
    """The items, made by one thread that is a little ahead."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = deque(pool.submit(next, items, end) for _ in range(_AHEAD))
        try:
            while (item := waiting.popleft().result()) is not end:
                yield cast("Item", item)
                waiting.append(pool.submit(next, items, end))
        finally:
            # Files are closed by the thread that opened them: SQLite insists on it.
            pool.submit(items.close).result()
