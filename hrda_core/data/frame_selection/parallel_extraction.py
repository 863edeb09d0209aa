"""Writes selected frames of many recordings in several processes, one recording at a time each.

A process gets the names of the files that it is to write, and gives back those that do not decode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrda_core.data.frame_selection.frame_extraction import Missing, finish, missing_files, write_frames
from hrda_core.data.frame_selection.selected_frames import Selection
from hrda_core.data.recordings.recording_workers import RecordingWorkers
from hrda_core.data.recordings.recordings import RecordingPart, Recordings
from hrda_core.data.scan.scan import Scan

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


def parallel_extraction(
    recordings: Recordings,
    found: Scan,
    selection: Selection,
    folder: Path,
    workers: RecordingWorkers,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write what `extract_frames` writes, byte for byte, recordings side by side.

    Args:
        recordings: those that were scanned. Their `range_grows` is false: else `extract_frames` is to be used.
        found: their scan, which the frames were selected from.
        selection, folder, progress: as of `extract_frames`.
        workers: the processes.

    Raises:
        DataError: as `extract_frames`, or a process died twice.
    """
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
    finish(selection, folder, undecodable)


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
