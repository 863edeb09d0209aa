"""Scans many recordings in several processes or on a cluster, one recording at a time each.

The result is that of one pass over all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from hrda_core.data.recordings.recordings import RecordingPart, Recordings
from hrda_core.data.recordings.worker_choice import Workers
from hrda_core.data.scan.camera_scan import AnalysedFrame, CameraScan, Picture
from hrda_core.data.scan.frame_quality import FloatArray, motion_between
from hrda_core.data.scan.scan import Scan, scan, scan_with_views
from hrda_core.errors import RecipeError

__all__ = ["parallel_scan"]

Views = Mapping[str, tuple[FloatArray, FloatArray]]
"""First and last view of each topic with a decoded frame (`frame_quality.view_of`)."""


@dataclass(frozen=True)
class _Job:
    part: RecordingPart
    analyse_hz: float
    pictures: int

    @property
    def path(self) -> Path:
        return self.part.path

    @property
    def places(self) -> tuple[Path, ...]:
        return (self.path,)


@dataclass(frozen=True)
class _Scanned:
    """What is known of one recording."""

    scan: Scan
    views: Views
    early: Mapping[str, int]
    value_remarks: tuple[str, ...]


class _GrowingRangeError(Exception):
    """Pixels of 16 bits were met, and no range was given."""


def parallel_scan(
    recordings: Recordings,
    workers: Workers,
    *,
    analyse_hz: float = 2.0,
    pictures: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Read all images once, recordings side by side.

    The scan equals that of `scan`, bit for bit, but for `CameraScan.pictures`, which may show other frames. Where
    pixels of 16 bits have no given range, theirs grows from one recording to the next: they are scanned here, one by
    one, and `recordings.range_grows` is then true.

    Args:
        recordings, analyse_hz, pictures, progress: as of `scan`.
        workers: processes, or workers of a cluster.

    Raises:
        RecipeError: `analyse_hz` is not above 0.
        DataError: a recording cannot be read, or its process died twice.
        MissingPackageError: rosbags is not installed.
    """
    if not analyse_hz > 0:
        raise RecipeError(f"{analyse_hz} frames a second cannot be analysed; give a rate above 0, such as 2")
    jobs = [_Job(part, analyse_hz, pictures) for part in recordings.parts()]
    total = sum(camera.count or 0 for camera in recordings.cameras)
    found: list[_Scanned | None] = [None] * len(jobs)

    def count(done: int) -> None:
        if progress is not None:
            progress(done, max(done + 1, total))

    with closing(workers.run(_scan_part, jobs, count)) as results:
        for number, found[number] in results:
            if found[number] is None:
                break
    parts = [part for part in found if part is not None]
    if len(parts) < len(jobs):
        return scan(recordings, analyse_hz=analyse_hz, pictures=pictures, progress=progress)
    whole = _joined(recordings, parts, pictures)
    images = sum(span.images for span in whole.recordings)
    if progress is not None and images:
        progress(images, images)
    return whole


def _scan_part(job: _Job, report: Callable[[int], None]) -> _Scanned | None:
    """Scan one recording, in another process; None where it cannot be scanned alone."""
    recordings = job.part.open()

    def progress(done: int, total: int) -> None:
        if recordings.range_grows:
            raise _GrowingRangeError
        report(done)

    try:
        found, views = scan_with_views(recordings, analyse_hz=job.analyse_hz, pictures=job.pictures, progress=progress)
    except _GrowingRangeError:
        return None
    return _Scanned(found, views, recordings.early, recordings.value_remarks)


def _joined(recordings: Recordings, parts: Sequence[_Scanned], pictures: int) -> Scan:
    early: Counter[str] = Counter()
    for part in parts:
        early.update(part.early)
    recordings.note_pass(
        tuple(chain.from_iterable(part.scan.salvage for part in parts)),
        early,
        chain.from_iterable(part.value_remarks for part in parts),
    )
    topics = dict.fromkeys(camera.topic for camera in recordings.cameras)
    cameras = (_joined_camera(topic, parts, pictures) for topic in topics)
    return Scan(
        recordings=tuple(chain.from_iterable(part.scan.recordings for part in parts)),
        cameras=tuple(camera for camera in cameras if camera is not None),
        topics=recordings.topics,
        salvage=recordings.salvage(),
        remarks=recordings.remarks,
    )


def _joined_camera(topic: str, parts: Sequence[_Scanned], pictures: int) -> CameraScan | None:
    found: list[CameraScan] = []
    frames: list[AnalysedFrame] = []
    recording_of = []
    images, recording = 0, 0
    before: FloatArray | None = None
    for part in parts:
        camera = next((camera for camera in part.scan.cameras if camera.topic == topic), None)
        if camera is not None:
            first, last = part.views.get(topic, (None, None))
            motion = None if before is None or first is None else motion_between(before, first)
            frames += _moved(camera.frames, images, motion)
            pictures_of = tuple(replace(picture, number=picture.number + images) for picture in camera.pictures)
            found.append(replace(camera, pictures=pictures_of))
            recording_of.append(camera.recording_of + recording)
            images += len(camera.stamps_ns)
            before = before if last is None else last
        recording += len(part.scan.recordings)
    if not found:
        return None
    return CameraScan(
        topic=topic,
        message_type=found[0].message_type,
        encodings=tuple(dict.fromkeys(chain.from_iterable(camera.encodings for camera in found))),
        sizes=tuple(dict.fromkeys(chain.from_iterable(camera.sizes for camera in found))),
        stamps_ns=np.concatenate([camera.stamps_ns for camera in found]),
        recording_of=np.concatenate(recording_of),
        frames=tuple(frames),
        pictures=_thinned([camera.pictures for camera in found], [len(camera.frames) for camera in found], pictures),
    )


def _moved(frames: Sequence[AnalysedFrame], images: int, motion: float | None) -> list[AnalysedFrame]:
    """Frames with their numbers among all images; the first that was decoded gets its motion from the one before."""
    moved = []
    for frame in frames:
        quality = frame.quality
        if quality is not None and motion is not None:
            quality = replace(quality, motion=motion)
            motion = None
        moved.append(replace(frame, number=frame.number + images, quality=quality))
    return moved


def _thinned(pictures: Sequence[Sequence[Picture]], frames: Sequence[int], count: int) -> tuple[Picture, ...]:
    """Pictures of all recordings, about as dense in each, at least `count` if there are so many and at most twice."""
    steps = [max(1, round(of / len(kept))) if kept else 1 for kept, of in zip(pictures, frames, strict=True)]
    joined = [
        picture
        for kept, step in zip(pictures, steps, strict=True)
        for picture in kept[:: max(1, max(steps, default=1) // step)]
    ]
    while count and len(joined) >= 2 * count:
        joined = joined[::2]
    return tuple(joined)
