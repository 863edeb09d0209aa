"""Scans one camera in a pass over a recording, and keeps all time stamps and the measures of a few frames a second."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrda_core.data.image_files import UInt8Array, encoded
from hrda_core.data.recordings.recorded_image import RecordedImage
from hrda_core.data.recordings.thinned_image import ThinnedImage, decode_thinned, encoding_of
from hrda_core.data.scan.camera_timing import elapsed_s
from hrda_core.data.scan.frame_quality import (
    ROWS,
    FloatArray,
    FrameQuality,
    measure,
    motion_between,
    thumbnail,
    view_of,
)
from hrda_core.errors import ImageError

__all__ = ["AnalysedFrame", "CameraPass", "CameraScan", "FrameKey", "Picture"]

FrameKey = tuple[str, int]
"""Topic, and number among the images of the topic."""

# Stamps of a regular camera jitter: a frame that comes a tenth of the period early is taken.
_EARLY = 0.1
_JPEG_QUALITY = 80


@dataclass(frozen=True, eq=False)
class AnalysedFrame:
    """A frame that was decoded and measured.

    Attributes:
        topic, number, stamp_ns, recording: as of the `RecordedImage`.
        quality: its measures; None where it does not decode.
        cause: why it does not decode, as in `ImageError`; else empty.
    """

    topic: str
    number: int
    stamp_ns: int
    recording: Path
    quality: FrameQuality | None
    cause: str = ""

    @property
    def key(self) -> FrameKey:
        """Identifies the frame among all others."""
        return self.topic, self.number


@dataclass(frozen=True)
class Picture:
    """A small picture of the frame with a number: JPEG, `frame_quality.WIDTH` wide."""

    number: int
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, eq=False)
class CameraScan:
    """What a pass kept of a camera.

    Attributes:
        topic, message_type: as recorded.
        encodings: encodings or formats that the analysed messages name, in order of appearance.
        sizes: (width, height) of the analysed frames, in order of appearance.
        stamps_ns: int64 (N,), time of all images, indexed by their number.
        recording_of: int64 (N,), number of the recording of each image.
        frames: the analysed frames, in the order of reading.
        pictures: pictures of some of them, evenly spaced.
    """

    topic: str
    message_type: str
    encodings: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    stamps_ns: npt.NDArray[np.int64]
    recording_of: npt.NDArray[np.int64]
    frames: tuple[AnalysedFrame, ...]
    pictures: tuple[Picture, ...]

    @cached_property
    def elapsed_s(self) -> npt.NDArray[np.float64]:
        """Time of each image, seconds after the camera's first one, in the order of recording; (N,)."""
        return elapsed_s(self.stamps_ns, self.recording_of)


class CameraPass:
    """Takes a camera's images one by one, in the order of reading: each goes to `note`, some of them to `analyse`.

    Args:
        topic, message_type: topic of the camera and its type.
        period_s: time between two analysed frames, seconds.
        pictures: smallest number of pictures to keep, if there are as many analysed frames; at most twice that are
            kept.
    """

    def __init__(self, topic: str, message_type: str, period_s: float, pictures: int) -> None:
        self._topic, self._message_type, self._period_ns = topic, message_type, round(1e9 * period_s)
        self._stamps, self._recording_of = array("q"), array("q")
        self._due_ns = 0
        self._frames: list[AnalysedFrame] = []
        self._view: FloatArray | None = None
        self._first_view: FloatArray | None = None
        self._encodings: dict[str, None] = {}
        self._sizes: dict[tuple[int, int], None] = {}
        self._pictures = _EvenlySpaced(pictures)

    def note(self, image: RecordedImage, recording: int) -> bool:
        """Note an image's time, and return whether the image is to be analysed."""
        stamp = image.stamp_ns
        follows = bool(self._stamps) and self._recording_of[-1] == recording and stamp >= self._stamps[-1]
        self._stamps.append(stamp)
        self._recording_of.append(recording)
        if follows and stamp < self._due_ns - _EARLY * self._period_ns:
            return False
        on_time = follows and stamp < self._due_ns + self._period_ns
        self._due_ns = (self._due_ns if on_time else stamp) + self._period_ns
        return True

    def analyse(self, image: RecordedImage) -> None:
        """Decode and measure an image."""
        quality, cause = None, ""
        if encoding := encoding_of(image):
            self._encodings.setdefault(encoding)
        try:
            quality = self._measure(decode_thinned(image, ROWS), image.number)
        except ImageError as error:
            cause = error.cause
        self._frames.append(AnalysedFrame(image.topic, image.number, image.stamp_ns, image.recording, quality, cause))

    @property
    def views(self) -> tuple[FloatArray, FloatArray] | None:
        """The first and the last view of the camera (`frame_quality.view_of`); None where no frame was decoded."""
        return None if self._first_view is None or self._view is None else (self._first_view, self._view)

    def result(self) -> CameraScan:
        """Return all that was noted."""
        return CameraScan(
            topic=self._topic,
            message_type=self._message_type,
            encodings=tuple(self._encodings),
            sizes=tuple(self._sizes),
            stamps_ns=np.array(self._stamps, np.int64),
            recording_of=np.array(self._recording_of, np.int64),
            frames=tuple(self._frames),
            pictures=tuple(self._pictures.kept),
        )

    def _measure(self, image: ThinnedImage, number: int) -> FrameQuality:
        rgb, width, height = image
        small = thumbnail(rgb, width, height)
        before, self._view = self._view, view_of(small)
        self._first_view = self._view if self._first_view is None else self._first_view
        self._sizes.setdefault((width, height))
        self._pictures.offer(small, number)
        return measure(rgb, small, float("nan") if before is None else motion_between(before, self._view))


class _EvenlySpaced:
    """Keeps pictures of a stream of unknown length: every one at first, then every second, every fourth and so on."""

    def __init__(self, count: int) -> None:
        self.kept: list[Picture] = []
        self._count, self._step, self._offered = count, 1, 0

    def offer(self, small: UInt8Array, number: int) -> None:
        if self._count and self._offered % self._step == 0:
            self.kept.append(Picture(number, encoded(small, ".jpg", _JPEG_QUALITY)))
            if len(self.kept) >= 2 * self._count:
                self.kept = self.kept[::2]
                self._step *= 2
        self._offered += 1
