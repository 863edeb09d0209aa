"""Reads frames of a video file by index, exactly even where the container's seeking is not exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.data.frames import PerProcess, UnlabelledFrames
from hrda_core.data.image_files import UInt8Array, opencv_path
from hrda_core.errors import DataError, ImageError
from hrda_core.messages.picture_size import MAX_MEGAPIXELS, check_pixels

__all__ = ["VideoFrames", "open_capture", "open_video"]

_NEAR = 48
"""Frames: up to this far ahead decoding on is cheaper than seeking to a key frame."""

_SEEK_TRIES = 3


def open_capture(path: Path, max_megapixels: int = MAX_MEGAPIXELS) -> cv2.VideoCapture:
    """Open a video file, of which no frame is decoded yet.

    Raises:
        DataError: it cannot be opened, or states frames of more million pixels than `max_megapixels`.
    """
    capture = cv2.VideoCapture(opencv_path(path))
    if not capture.isOpened():
        raise DataError(f"video '{path}' cannot be opened; convert it, for example to H.264 in .mp4")
    try:
        height, width = (capture.get(side) for side in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        check_pixels(int(height), int(width), max_megapixels)
    except ImageError as error:
        capture.release()
        raise DataError(f"video '{path}' cannot be read: {error}") from error
    return capture


class _VideoReader:
    """A capture and the index of the frame that it will decode next."""

    def __init__(self, path: Path, max_megapixels: int) -> None:
        self._path, self._max_megapixels = path, max_megapixels
        self._open()

    def _open(self) -> None:
        self._capture = open_capture(self._path, self._max_megapixels)
        self._next = 0

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def grab(self) -> float | None:
        """Pass one frame; its time stamp in ms, or None at the end."""
        if not self._capture.grab():
            return None
        self._next += 1
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC))

    def read(self, index: int, stamps: npt.NDArray[np.float64], seekable: bool) -> UInt8Array:
        """Decode frame `index`; `stamps` are those of all frames in order."""
        if not self._next <= index <= self._next + _NEAR and not (seekable and self._seek(index, stamps)):
            self._rewind_unless_before(index)
        while self._next < index:
            if self.grab() is None:
                break
        found, bgr = self._capture.read()
        if not found or self._next != index:
            raise DataError(f"frame {index} of video '{self._path}' does not decode any more; was the file changed?")
        self._next += 1
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)

    def _seek(self, index: int, stamps: npt.NDArray[np.float64]) -> bool:
        """Go to a frame at or before `index`, and find out by its time stamp which one it is.

        Where a seek lands is the decoder's choice, with B-frames, variable rates or damaged indexes often beside the
        mark.
        """
        self._next = index + 1  # not known to be before `index`
        for goal in range(index - 1, max(index - 1 - _SEEK_TRIES * _NEAR, -1), -_NEAR):
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, goal)
            if not self._capture.grab():
                return False
            landed = np.flatnonzero(stamps == self._capture.get(cv2.CAP_PROP_POS_MSEC))
            if len(landed) == 1 and landed[0] < index:
                self._next = int(landed[0]) + 1
                return True
        return False

    def _rewind_unless_before(self, index: int) -> None:
        if self._next > index:
            self._capture.release()
            self._open()


@dataclass(frozen=True)
class VideoFrames(UnlabelledFrames):
    """A video file.

    Attributes:
        path: path of the file.
        stamps: time of each frame in the order of decoding, ms.
        max_megapixels: see `open_capture`.
    """

    path: Path
    stamps: npt.NDArray[np.float64] = field(compare=False, repr=False)
    max_megapixels: int = field(default=MAX_MEGAPIXELS, compare=False, repr=False)
    _reader: PerProcess[_VideoReader] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_reader", PerProcess(partial(_VideoReader, self.path, self.max_megapixels)))

    def __len__(self) -> int:
        return len(self.stamps)

    def load(self, index: int) -> UInt8Array:
        # Stamps that repeat cannot tell frames apart: then decode from the start.
        seekable = len(self) < 2 or bool((np.diff(self.stamps) > 0).all())
        with self._reader.use() as reader:
            return reader.read(range(len(self))[index], self.stamps, seekable)

    def describe(self) -> str:
        seconds = (self.stamps[-1] - self.stamps[0]) / 1000
        return f"{len(self)} frames of video '{self.path}', {seconds:.1f} s"

    def sizes(self) -> Iterator[tuple[str, int, int]]:
        height, width = self.load(0).shape[:2]
        yield f"{self.path} frame 0", height, width


def open_video(path: Path, max_megapixels: int = MAX_MEGAPIXELS) -> VideoFrames:
    """Read a video once and note the time of each frame, because a container's header is often wrong.

    Raises:
        DataError: the file cannot be opened, its frames are larger than `max_megapixels`, or none decodes.
    """
    reader = _VideoReader(path, max_megapixels)
    stamps = []
    while (stamp := reader.grab()) is not None:
        stamps.append(stamp)
    reader.close()
    if not stamps:
        raise DataError(f"video '{path}' has no frame that decodes; convert it, for example to H.264 in .mp4")
    return VideoFrames(path, np.asarray(stamps, np.float64), max_megapixels)
