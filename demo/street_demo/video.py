"""Writes the overlay video, in the first format that this OpenCV can write and read back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from street_demo.errors import DemoError

__all__ = ["write_video"]

UInt8Array = npt.NDArray[np.uint8]


def write_video(pictures: Iterable[UInt8Array], folder: Path, fps: float, *, codec: str = "mp4v") -> Path:
    """Write `overlay.mp4`, or an animated picture if the codec is missing; return the file.

    Args:
        pictures: uint8 (H, W, 3), RGB, all of one size.
        folder: where to write.
        fps: pictures a second.
        codec: four letters, as OpenCV names codecs.

    Raises:
        DemoError: no format worked.
    """
    # OpenCV wants BGR.
    frames = [np.ascontiguousarray(picture[..., ::-1]) for picture in pictures]
    path = folder / "overlay.mp4"
    if _write_mp4(frames, path, fps, codec):
        return path
    path.unlink(missing_ok=True)
    for suffix in (".webp", ".png"):
        path = folder / f"overlay{suffix}"
        if _write_animation(frames, path, fps):
            return path
        path.unlink(missing_ok=True)
    raise DemoError("OpenCV writes neither mp4 nor animated WebP or PNG here; install opencv-python-headless >= 4.11")


def _write_mp4(frames: list[UInt8Array], path: Path, fps: float, codec: str) -> bool:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (width, height))
    if not writer.isOpened():
        return False
    for frame in frames:
        writer.write(frame)
    writer.release()
    reader = cv2.VideoCapture(str(path))
    found = 0
    while True:
        good, picture = reader.read()
        if not good or picture.shape[:2] != (height, width):
            break
        found += 1
    reader.release()
    return found == len(frames)


def _write_animation(frames: list[UInt8Array], path: Path, fps: float) -> bool:
    # Animations came with OpenCV 4.11, and a build may lack the format.
    with contextlib.suppress(AttributeError, cv2.error):
        animation = cv2.Animation()
        animation.frames = frames
        animation.durations = [round(1000 / fps)] * len(frames)
        return bool(cv2.imwriteanimation(str(path), animation))
    return False
