"""Which recordings of a folder are finished, and by what a recording is known again."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hrda_core.data.recordings.recording_files import RecordingFiles, find_recordings, storage_kind
from hrda_core.errors import DataError, RecipeError, shown

__all__ = ["Recording", "finished_recordings"]

_METADATA = "metadata.yaml"


@dataclass(frozen=True)
class Recording:
    """A finished recording.

    Attributes:
        name: its path below the watched folder.
        path: its path.
        fingerprint: hash of the names, sizes and times of its files; another one = it has changed.
    """

    name: str
    path: Path
    fingerprint: str


def finished_recordings(
    folder: Path, *, settle_s: float = 0.0, left: list[str] | None = None, now: Callable[[], float] = time.time
) -> list[Recording]:
    """Return the finished recordings below a folder, the oldest first.

    A rosbag2 recording is finished when its metadata.yaml, which a recorder writes at its end, is whole and all files
    that it lists are there. A ROS 1 recording is when its recorder has given it its last name.

    Args:
        folder: the folder.
        settle_s: a recording with a file that changed less than so many seconds ago may still be copied, and is left.
        left: gets a sentence on each recording that is left.
        now: the time, seconds since 1970.

    Raises:
        RecipeError: there is no such folder.
    """
    if not folder.is_dir():
        raise RecipeError(f"'{folder}' is not a folder; give the one that recordings are put into")
    left = [] if left is None else left
    try:
        found = find_recordings([folder], left)
    except DataError:  # none yet
        return []
    recordings = []
    for entry in found:
        try:
            states = [(path.name, path.stat()) for path in _files(entry)]
        except OSError:  # it is being moved
            continue
        newest = max((state.st_mtime for _, state in states), default=0.0)
        changing = "has just changed" if 0 <= now() - newest < settle_s else ""
        if why := _unfinished(entry) or _no_text(entry.path) or changing:
            left.append(f"'{shown(entry.path)}' is left: it {why}")
            continue
        text = "\n".join(f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states)
        name = str(entry.path.relative_to(folder)) if entry.path != folder else entry.path.name
        recordings.append((newest, Recording(name, entry.path, hashlib.sha256(os.fsencode(text)).hexdigest()[:32])))
    return [recording for _, recording in sorted(recordings, key=lambda pair: (pair[0], pair[1].name))]


def _files(entry: RecordingFiles) -> list[Path]:
    metadata = entry.path / _METADATA
    return sorted({*entry.files, *([metadata] if metadata.is_file() else [])})


def _no_text(path: Path) -> str:
    """Why a name cannot stand in the journal; empty where it can."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8; rename it"
    return ""


def _unfinished(entry: RecordingFiles) -> str:
    """Why a recording is not finished; empty where it is."""
    if entry.path.is_file():
        if storage_kind(entry.path) == "bag" and not entry.path.name.lower().endswith(".active"):
            return ""
        return (
            f"has no {_METADATA}, which a recorder writes at its end; of one that was cut off, "
            f"'ros2 bag reindex {entry.path.parent}' writes it"
        )
    if entry.written is None or not entry.files:
        return f"has no whole {_METADATA} yet"
    return entry.damage[0] if entry.damage else ""
