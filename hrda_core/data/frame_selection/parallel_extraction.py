"""Writes selected frames of many recordings in several processes or on a cluster, one recording at a time each.

A process gets the names of the files that it is to write, and gives back those that do not decode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrda_core.data.frame_selection.frame_extraction import Missing, finish, missing_files, write_frames
from hrda_core.data.frame_selection.selected_frames import Selection
from hrda_core.data.recordings.recordings import RecordingPart, Recordings
from hrda_core.data.recordings.worker_choice import Workers
from hrda_core.data.scan.scan import Scan
from hrda_core.errors import DataError

__all__ = ["parallel_extraction"]


@dataclass(frozen=True)
class _Job:
    """Images of one recording, counted within it, and the files that they are to be written to."""

    part: RecordingPart
    missing: Missing
    folder: Path

    @property
    def path(self) -> Path:
        return self.part.path

    @property
    def places(self) -> tuple[Path, ...]:
        return (self.path, self.folder)


def parallel_extraction(
    recordings: Recordings,
    found: Scan,
    selection: Selection,
    folder: Path,
    workers: Workers,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write what `extract_frames` writes, byte for byte, recordings side by side.

    Args:
        recordings: those that were scanned. Their `range_grows` is false: else `extract_frames` is to be used.
        found: their scan, which the frames were selected from.
        selection, folder, progress: as of `extract_frames`.
        workers: processes, or workers of a cluster, which see the folder under the same path.

    Raises:
        DataError: as `extract_frames`, a recording's workers died, or what they wrote is not seen here.
    """
    folder = folder.absolute()  # workers have current folders of their own
    folder.mkdir(parents=True, exist_ok=True)
    missing = missing_files(selection, folder)
    total, left = missing.total, missing.left
    jobs = _jobs(recordings, found, missing.places, folder)
    undecodable: set[str] = set()

    def count(done: int) -> None:
        if progress is not None and total:
            progress(total - left + done, total)

    count(0)
    for _, files in workers.run(_write_part, jobs, count):
        undecodable |= files
    for unfinished in folder.glob("*/.*.part"):
        unfinished.unlink(missing_ok=True)  # by a worker that was killed
    _check_written(missing.places, folder, undecodable)
    finish(selection, folder, undecodable)


def _check_written(missing: Missing, folder: Path, undecodable: Collection[str]) -> None:
    """Refuse frames that were written to another disk of the same path.

    Folders are listed: of a single name a network disk may remember for a while that there was none.
    """
    there = {f"{part.name}/{file.name}" for part in folder.iterdir() if part.is_dir() for file in part.iterdir()}
    lost = {file for places in missing.values() for file, _ in places} - there - set(undecodable)
    if lost:
        raise DataError(
            f"{len(lost)} frames that workers wrote to '{folder}' are not there; put the working folder on a disk that "
            "all workers have under the same path"
        )


def _jobs(recordings: Recordings, found: Scan, missing: Missing, folder: Path) -> list[_Job]:
    parts = {part.path: part for part in recordings.parts()}
    before: Counter[str] = Counter()
    jobs = []
    for number, span in enumerate(found.recordings):
        local: Missing = {}
        for camera in found.cameras:
            first, images = before[camera.topic], int(np.count_nonzero(camera.recording_of == number))
            before[camera.topic] += images
            for place in range(first, first + images):
                if (camera.topic, place) in missing:
                    local[camera.topic, place - first] = missing[camera.topic, place]
        if local:
            jobs.append(_Job(parts[span.path], local, folder))
    return jobs


def _write_part(job: _Job, report: Callable[[int], None]) -> set[str]:
    """Write the frames of one recording, in another process. What an earlier process wrote is left alone."""
    missing = {
        key: [(file, stamp) for file, stamp in places if not (job.folder / file).is_file()]
        for key, places in job.missing.items()
    }
    total = sum(map(len, job.missing.values()))
    missing = {key: places for key, places in missing.items() if places}
    return write_frames(job.part.open(), missing, job.folder, lambda left: report(total - left))
