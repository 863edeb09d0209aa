"""Finds the files that make up a recording, and makes them readable: unpacked, and with what lies in a `-wal` file."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hrda_core.data.recordings.salvage.unpacking import unpack_file
from hrda_core.errors import DataError, TextError, one_line, shown
from hrda_core.plain_files import copy_file, open_file
from hrda_core.scratch import temporary_folder
from hrda_core.untrusted_text import Limits, read_yaml_file

__all__ = ["SUFFIXES", "RecordingFiles", "find_recordings", "storage_kind", "unpacked"]

SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd", ".bag", ".bag.active")
_METADATA = "metadata.yaml"
_KIND = re.compile(r"\.(mcap|db3)(\.zstd)?$|\.(bag)(\.active)?$", re.IGNORECASE)
_GZIP = re.compile(r"\.(gz|tgz)$", re.IGNORECASE)
_UNSAFE = re.compile(r"[#?%]")
"""Characters of a path that mean something else where SQLite is given an address."""
_WAL_HEAD, _FRAME_HEAD = 32, 24


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


def find_recordings(paths: Sequence[Path], remarks: list[str] | None = None) -> list[RecordingFiles]:
    """Find the recordings at or below the given paths, each once.

    A folder with metadata.yaml is one recording. In any other folder each storage file is one, and folders below are
    searched too: a split recording that lost its metadata comes out as several, which a reader puts in order. A link
    below a given path that leads out of it is not followed.

    Args:
        remarks: gets a sentence on each link that is not followed, and on each folder that cannot be read.

    Raises:
        DataError: a path does not exist, is no recording by its name, or holds none.
    """
    found: dict[Path, RecordingFiles] = {}
    left_out: list[str] = [] if remarks is None else remarks
    for path in paths:
        if not path.exists():
            raise DataError(f"recording '{path}' does not exist; give a rosbag2 folder or a file ({_listed()})")
        if path.is_file() and not storage_kind(path):
            raise DataError(
                f"'{path}' is no recording by its name; expected a rosbag2 folder or a file ({_listed()}), "
                f"{'unpack it first' if _GZIP.search(path.name) else 'give one'}"
            )
        below = list(_below(path, _Search(path.resolve(), left_out)))
        if not below:
            why = f"; {left_out[-1]}" if left_out else ""
            advice = _advice(path)
            raise DataError(f"folder '{path}' holds no recording ({_listed()}){why}; {advice}")
        for recording in below:
            found.setdefault(recording.path.resolve(), recording)
    return list(found.values())


def _advice(folder: Path) -> str:
    try:
        packed = next((entry for entry in sorted(folder.iterdir()) if _GZIP.search(entry.name)), None)
    except OSError:
        packed = None
    return f"unpack '{shown(packed.name)}' and others first" if packed else "give another folder"


def _listed() -> str:
    return ", ".join(SUFFIXES)


class _Search:
    """A search below a folder, which stays in it and enters no folder twice.

    Args:
        root: the folder, resolved.
        left_out: gets a sentence on each link that leads out.
    """

    def __init__(self, root: Path, left_out: list[str]) -> None:
        self._root, self._left_out = root, left_out
        self._entered: set[Path] = set()

    def enters(self, folder: Path) -> bool:
        """Return whether a folder is new; links may lead to one a second time."""
        real = folder.resolve()
        new = real not in self._entered
        self._entered.add(real)
        return new

    def leave(self, remark: str) -> None:
        """Note what is left out."""
        self._left_out.append(remark)

    def stays(self, entry: Path) -> bool:
        """Return whether an entry lies in the folder, also where it is a link."""
        if not entry.is_symlink():
            return True
        try:
            inside = entry.resolve(strict=True).is_relative_to(self._root)
        except (OSError, RuntimeError):  # it leads nowhere, or to itself
            return False
        if not inside and (entry.is_dir() or storage_kind(entry)):
            self._left_out.append(
                f"'{shown(entry)}' is a link out of '{shown(self._root)}' and was not followed; give its goal as a path"
            )
        return inside


def _below(path: Path, search: _Search) -> Iterator[RecordingFiles]:
    if path.is_file():
        yield RecordingFiles(path, (path,))
        return
    if not search.enters(path):
        return
    try:
        entries = [entry for entry in sorted(path.iterdir()) if search.stays(entry)]
    except OSError as error:  # no permission, or it was removed meanwhile; the others are there
        search.leave(f"'{shown(path)}' cannot be read ({error.strerror}); make it readable for this user")
        return
    storage = tuple(entry for entry in entries if entry.is_file() and storage_kind(entry))
    if (path / _METADATA).is_file():
        yield _with_metadata(path, storage)
        return
    for file in storage:
        yield RecordingFiles(file, (file,))
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _below(entry, search)


def _with_metadata(path: Path, storage: tuple[Path, ...]) -> RecordingFiles:
    """The storage files of a folder. What lies there counts more than what the metadata list.

    A listed file may lie there under another suffix (packed, or unpacked, after recording). Files that are not listed
    are read too, unless they are another form of one that is.
    """
    try:
        information = _read_metadata(path / _METADATA)["rosbag2_bagfile_information"]
        listed = [path / PurePosixPath(name).name for name in information["relative_file_paths"]]
        written = {
            str(topic["topic_metadata"]["name"]): int(topic["message_count"])
            for topic in information["topics_with_message_count"]
        }
    except (OSError, TextError, KeyError, TypeError, ValueError, OverflowError) as error:
        return RecordingFiles(path, storage, None, (f"{_METADATA} cannot be read ({one_line(error)})",))
    forms: dict[str, Path] = {}
    for file in (*(file for file in listed if file in storage), *storage):
        forms.setdefault(_base(file), file)
    missing = [file for file in listed if _base(file) not in forms]
    renamed = len(forms.keys() - {_base(file) for file in listed}) >= len(missing)
    damage = () if renamed else tuple(f"file '{file.name}' is missing" for file in missing)
    return RecordingFiles(path, tuple(sorted(forms.values(), key=lambda file: file.name)), written, damage)


def _base(file: Path) -> str:
    """Name of a storage file without its suffixes: that of all its forms."""
    return _KIND.sub("", file.name)


_METADATA_LIMITS = Limits(bytes=16 << 20, nodes=1_000_000)
"""A recording of 10,000 topics, each with its quality of service."""


def _read_metadata(path: Path) -> Any:
    return read_yaml_file(path, _METADATA_LIMITS)


@contextmanager
def unpacked(path: Path, damage: list[str]) -> Iterator[Path]:
    """Yield a storage file that can be read in any order; a .zstd file is unpacked to a temporary folder meanwhile.

    A .db3 file with messages in a `-wal` file beside it is copied there and the messages are put in; the files of the
    recording stay as they are. Both need the disk space of the whole file, where the environment's `TMPDIR` points to.
    A file whose path SQLite would misread is reached by a link.

    Args:
        path: storage file.
        damage: gets a clause where the packed file or the `-wal` file is cut off or damaged; what could be read is
            there.
    """
    if path.suffix.lower() != ".zstd":
        log = path.with_name(f"{path.name}-wal")
        if storage_kind(path) == "db3" and log.is_file() and log.stat().st_size > _WAL_HEAD:
            with temporary_folder("recording") as folder:
                yield _with_log(path, log, folder / "recording.db3", damage)
        elif storage_kind(path) == "db3" and _UNSAFE.search(str(path.absolute())):
            with temporary_folder("recording") as folder:
                link = folder / "recording.db3"
                link.symlink_to(path.absolute())
                yield link
        else:
            yield path
        return
    with temporary_folder("recording") as folder:
        target = folder / path.stem
        try:
            unpack_file(path, target)
        except OSError:
            raise  # the disk is full
        except Exception as error:
            damage.append(f"'{path.name}' unpacks only in part ({one_line(error)})")
        yield target


def _with_log(path: Path, log: Path, target: Path, damage: list[str]) -> Path:
    """Copy a database to `target` and put in what its write-ahead log holds: all transactions that were finished."""
    copy_file(path, target)
    copy_file(log, target.with_name(f"{target.name}-wal"))
    try:
        with closing(sqlite3.connect(target)) as database:
            _, _, taken = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error as error:
        damage.append(f"'{log.name}' cannot be read ({one_line(error)}), what it holds is lost")
        copy_file(path, target)  # a refused log may have been put in by half
        return target
    lost = _current_frames(log) - max(0, taken)
    if lost > 0:
        damage.append(f"{lost} pages at the end of '{log.name}' belong to messages that were not finished")
    return target


def _current_frames(log: Path) -> int:
    """Pages that a write-ahead log holds, finished or not. Those behind are left over from before its last reset."""
    count = 0
    with open_file(log) as file:
        head = file.read(_WAL_HEAD)
        size = _FRAME_HEAD + int.from_bytes(head[8:12], "big")
        while (frame := file.read(_FRAME_HEAD)) and frame[8:16] == head[16:24]:
            count += 1
            file.seek(_WAL_HEAD + count * size)
    return count
