"""Images to calibrate an int8 graph on: some frames of target footage, spread evenly over all of it.

The range of an int8 value is that of the calibration images, so day alone does not calibrate for night, and one scene
not for a drive. Labels are not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrda_core.data.frames import UnlabelledFrames
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError, RecipeError
from hrda_core.resizing import resize_image

__all__ = ["MIN_IMAGES", "calibration_images", "spread_frames"]

MIN_IMAGES = 8
"""With fewer, ranges depend on which images they are."""

UInt8Array = npt.NDArray[np.uint8]


def calibration_images(
    path: Path, size: tuple[int, int], count: int = 32, *, topic: str = "", between: bool = False
) -> Iterator[UInt8Array]:
    """Return frames as `Predictor` gives them to a graph of one size: shrunk, then padded by repeating the border.

    Args:
        size: height and width of the graph, pixels.
        path, count, topic, between: as for `spread_frames`, which also lists the errors.

    Returns:
        uint8 (1, height, width, 3) RGB, each read when it is asked for.
    """
    return (_fitted(rgb, size) for rgb in spread_frames(path, count, topic=topic, between=between))


def spread_frames(path: Path, count: int = 32, *, topic: str = "", between: bool = False) -> Iterator[UInt8Array]:
    """Return frames of target footage, evenly spread over it; those that cannot be read are left out.

    Args:
        path: folder of images (searched recursively), video file, or recording.
        count: number of frames, `MIN_IMAGES` at least; footage with fewer frames gives all.
        topic: image topic of a recording; empty = its only one.
        between: return frames half-way between those that are returned without it, to check on.

    Returns:
        RGB uint8 (H, W, 3), each read when it is asked for.

    Raises:
        RecipeError: `count` is below `MIN_IMAGES`.
        DataError: there is no such footage, or it has fewer frames than `MIN_IMAGES`, or fewer can be read.
        MissingPackageError: the path is a recording, and the package rosbags is not installed.
    """
    if count < MIN_IMAGES:
        raise RecipeError(
            f"calibration takes at least {MIN_IMAGES} images, asked for are {count}; give a larger number"
        )
    frames = open_unlabelled(path, topic=topic)
    if len(frames) < MIN_IMAGES:
        raise _too_few(path, len(frames), "")
    return _read(frames, path, min(count, len(frames)), 0.75 if between else 0.25)


def _read(frames: UnlabelledFrames, path: Path, count: int, phase: float) -> Iterator[UInt8Array]:
    found = 0
    for number in range(count):
        try:
            rgb = frames.load(int((number + phase) * len(frames) / count))
        except DataError:
            continue
        found += 1
        yield rgb
    if found < MIN_IMAGES:
        raise _too_few(path, found, f" that can be read, of {count} that were tried")


def _too_few(path: Path, found: int, which: str) -> DataError:
    return DataError(
        f"'{path}' has {found} frames{which}; calibration takes at least {MIN_IMAGES}, better 32, of all conditions "
        f"that the model is for: give more footage"
    )


def _fitted(rgb: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    factor = min(1.0, size[0] / rgb.shape[0], size[1] / rgb.shape[1])
    height, width = (max(1, round(side * factor)) for side in rgb.shape[:2])
    if factor < 1:
        rgb = resize_image(rgb, height, width, "area")
    return np.pad(rgb, ((0, size[0] - height), (0, size[1] - width), (0, 0)), mode="edge")[None]
