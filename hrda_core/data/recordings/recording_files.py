"""Finds the files that make up a recording, and unpacks those that are compressed as a whole."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from hrda_core.data.recordings.salvage.findings import new_unpacker
from hrda_core.errors import DataError, one_line

__all__ = ["SUFFIXES", "RecordingFiles", "find_recordings", "storage_kind", "unpacked"]

SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd", ".bag", ".bag.active")
_METADATA = "metadata.yaml"
_KIND = re.compile(r"\.(mcap|db3)(\.zstd)?$|\.(bag)(\.active)?$", re.IGNORECASE)
_BLOCK = 1 << 20


@dataclass(frozen=True)
class RecordingFiles:
    """The files of a recording on disk.

    Attributes:
        path: its folder with metadata.yaml, or its only file.
        files: storage files, sorted by name.
        written: number of messages of each topic according to the metadata; None without metadata.
        damage: clauses about what is wrong with the folder.
    """

    path: Path
    files: tuple[Path, ...]
    written: Mapping[str, int] | None = None
    damage: tuple[str, ...] = ()


def storage_kind(path: Path) -> str:
    """Return `mcap`, `db3` or `bag` by the name of a file; empty = no storage file of a recording."""
    found = _KIND.search(path.name)
    return (found.group(1) or found.group(3)).lower() if found else ""


def find_recordings(paths: Sequence[Path]) -> list[RecordingFiles]:
    """Find the recordings at or below the given paths, each once.

    A folder with metadata.yaml is one recording. In any other folder each storage file is one, and folders below are
    searched too: a split recording that lost its metadata comes out as several, which a reader puts in order.

    Raises:
        DataError: a path does not exist, is no recording by its name, or holds none.
    """
    found: dict[Path, RecordingFiles] = {}
    for path in paths:
        if not path.exists():
            raise DataError(f"recording '{path}' does not exist; give a rosbag2 folder or a file ({_listed()})")
        if path.is_file() and not storage_kind(path):
            raise DataError(
                f"'{path}' is no recording by its name; expected a rosbag2 folder or a file ({_listed()}), give one"
            )
        below = list(_below(path))
        if not below:
            raise DataError(f"folder '{path}' holds no recording ({_listed()}); give another folder")
        for recording in below:
            found.setdefault(recording.path.resolve(), recording)
    return list(found.values())


def _listed() -> str:
    return ", ".join(SUFFIXES)


def _below(path: Path) -> Iterator[RecordingFiles]:
    if path.is_file():
        yield RecordingFiles(path, (path,))
        return
    entries = sorted(path.iterdir())
    storage = tuple(entry for entry in entries if entry.is_file() and storage_kind(entry))
    if (path / _METADATA).is_file():
        yield _with_metadata(path, storage)
        return
    for file in storage:
        yield RecordingFiles(file, (file,))
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _below(entry)


def _with_metadata(path: Path, storage: tuple[Path, ...]) -> RecordingFiles:
    """The storage files that the metadata list, or all where they cannot be read: every file tells its own topics."""
    try:
        information = _read_metadata(path / _METADATA)["rosbag2_bagfile_information"]
        listed = [path / PurePosixPath(name).name for name in information["relative_file_paths"]]
        written = {
            str(topic["topic_metadata"]["name"]): int(topic["message_count"])
            for topic in information["topics_with_message_count"]
        }
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        return RecordingFiles(path, storage, None, (f"{_METADATA} cannot be read ({one_line(error)})",))
    missing = tuple(f"file '{file.name}' is missing" for file in listed if not file.is_file())
    files = tuple(file for file in listed if file.is_file()) or storage
    return RecordingFiles(path, files, written, missing)


def _read_metadata(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@contextmanager
def unpacked(path: Path, damage: list[str]) -> Iterator[Path]:
    """Yield a storage file that can be read in any order; a .zstd file is unpacked to a temporary folder meanwhile.

    That needs the disk space of the unpacked file, where the environment's `TMPDIR` points to.

    Args:
        path: storage file.
        damage: gets a clause where the packed file is cut off or damaged; what could be unpacked is there.
    """
    if path.suffix.lower() != ".zstd":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="hrda_recording_") as folder:
        target = Path(folder) / path.stem
        unpack = new_unpacker("zstd")
        with path.open("rb") as packed, target.open("wb") as plain:
            try:
                while block := packed.read(_BLOCK):
                    plain.write(unpack(block))
            except OSError:
                raise  # the disk is full
            except Exception as error:
                damage.append(f"'{path.name}' unpacks only in part ({one_line(error)})")
        yield target
