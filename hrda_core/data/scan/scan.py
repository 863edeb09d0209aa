"""Passes over recordings once, to tell what is in them and to select frames (`frame_selection`).

Every image gives its time stamp; about two frames a second of each camera are decoded and measured. A pass therefore
costs little more than reading, and keeps some bytes for an image and half a kilobyte for an analysed frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hrda_core.data.recordings.recordings import RecordedImage, Recordings, Salvage, TopicInfo
from hrda_core.data.scan.camera_scan import AnalysedFrame, CameraPass, CameraScan
from hrda_core.data.scan.camera_timing import is_jump
from hrda_core.data.scan.frame_quality import FloatArray
from hrda_core.errors import RecipeError

__all__ = ["RecordingSpan", "Scan", "scan", "scan_with_views"]

_PROGRESS_EVERY = 16
"""Images between two reports of progress: a call costs more than a time stamp."""


@dataclass(frozen=True)
class RecordingSpan:
    """A recording that images were read from.

    Attributes:
        path: file or folder.
        begin_ns, end_ns: first and last time of an image in the recording.
        images: number of images that were read.
        jumps_s: steps of the recorder's clock in between, seconds (`camera_timing.is_jump`).
    """

    path: Path
    begin_ns: int
    end_ns: int
    images: int
    jumps_s: tuple[float, ...] = ()

    @property
    def duration_s(self) -> float:
        """Seconds from the first image to the last, without jumps of the clock."""
        return (self.end_ns - self.begin_ns) / 1e9 - sum(self.jumps_s)


@dataclass(frozen=True, eq=False)
class Scan:
    """The result of a pass.

    Attributes:
        recordings: those with images of the chosen topics, in the order of reading.
        cameras: the chosen topics that have images, in the order of `Recordings.cameras`.
        topics: all topics of all recordings.
        salvage: what was kept and lost of damaged recordings.
        remarks: sentences on what was chosen or left out.
    """

    recordings: tuple[RecordingSpan, ...]
    cameras: tuple[CameraScan, ...]
    topics: tuple[TopicInfo, ...]
    salvage: tuple[Salvage, ...]
    remarks: tuple[str, ...] = ()

    @property
    def frames(self) -> tuple[AnalysedFrame, ...]:
        """Analysed frames of all cameras, camera by camera."""
        return tuple(frame for camera in self.cameras for frame in camera.frames)

    @property
    def begin_ns(self) -> int:
        """Time stamp of the first image of the camera that begins first; 0 where there is no image."""
        return min((int(camera.stamps_ns[0]) for camera in self.cameras), default=0)

    @property
    def span_s(self) -> float:
        """Total length of all recordings, seconds."""
        return sum(recording.duration_s for recording in self.recordings)


def scan(
    recordings: Recordings,
    *,
    analyse_hz: float = 2.0,
    pictures: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Read all images once.

    Args:
        recordings: recordings with the topics chosen.
        analyse_hz: frames a second of each camera that are decoded and measured.
        pictures: smallest number of pictures kept of each camera, if it has as many analysed frames.
        progress: called with the number of images read and of all.

    Raises:
        RecipeError: `analyse_hz` is not above 0.
        MissingPackageError: rosbags is not installed.
    """
    return scan_with_views(recordings, analyse_hz=analyse_hz, pictures=pictures, progress=progress)[0]


def scan_with_views(
    recordings: Recordings,
    *,
    analyse_hz: float,
    pictures: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Scan, dict[str, tuple[FloatArray, FloatArray]]]:
    """`scan`, and the first and last view of each topic (`CameraPass.views`), by which scans are joined."""
    if not analyse_hz > 0:
        raise RecipeError(f"{analyse_hz} frames a second cannot be analysed; give a rate above 0, such as 2")
    spans: dict[Path, _Span] = {}
    passes = {
        camera.topic: CameraPass(camera.topic, camera.message_type, 1 / analyse_hz, pictures)
        for camera in recordings.cameras
    }
    # No thread of its own for the analysis: on a busy machine handing over the interpreter costs more than it gains.
    for image in _reported(recordings, progress):
        span = spans.setdefault(image.recording, _Span(len(spans), image.log_ns, image.log_ns))
        span.add(image.log_ns)
        camera = passes[image.topic]
        if camera.note(image, span.number):
            camera.analyse(image)
    cameras = (camera.result() for camera in passes.values())
    views = {topic: camera.views for topic, camera in passes.items() if camera.views is not None}
    found = Scan(
        recordings=tuple(
            RecordingSpan(path, span.begin_ns, span.end_ns, span.images, tuple(span.jumps_s))
            for path, span in spans.items()
        ),
        cameras=tuple(camera for camera in cameras if len(camera.stamps_ns)),
        topics=recordings.topics,
        salvage=recordings.salvage(),
        remarks=recordings.remarks,
    )
    return found, views


def _reported(recordings: Recordings, progress: Callable[[int, int], None] | None) -> Iterator[RecordedImage]:
    """All images; `progress` is told now and then."""
    total, done = sum(camera.count or 0 for camera in recordings.cameras), 0
    for done, image in enumerate(recordings.images(), 1):
        yield image
        if progress is not None and done % _PROGRESS_EVERY == 0:
            progress(done, max(done + 1, total))
    if progress is not None and done:
        progress(done, done)


@dataclass
class _Span:
    """A `RecordingSpan` that grows."""

    number: int
    begin_ns: int
    end_ns: int
    images: int = 0
    jumps_s: list[float] = field(default_factory=list)

    def add(self, log_ns: int) -> None:
        step_s = (log_ns - self.end_ns) / 1e9
        if is_jump(step_s):
            self.jumps_s.append(step_s)
            self.end_ns = log_ns
        elif not self.jumps_s:
            self.begin_ns = min(self.begin_ns, log_ns)
        self.end_ns = max(self.end_ns, log_ns)
        self.images += 1
