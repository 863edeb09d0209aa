"""Writes files and folders such that each is whole or not there at all, whenever the process is killed.

    write_whole(path, content)                       bytes or text
    with whole_file(path) as part: ...               for a library that writes to a path
    with replaced_folder(out, marker) as folder: ... for a result of many files
    write_json, read_json, file_sha256, cache_folder

Everything is written beside its place under a name of its own, and renamed when it is whole. With `durable` it also
outlasts a power cut. A failed write raises one sentence, as a `DataError` or as the class that the caller names.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hrda_core.errors import DataError, HrdaError, TextError, shown
from hrda_core.folder_locks import LOCK_NAME, locked, removed_if_empty
from hrda_core.plain_files import open_file
from hrda_core.standard_streams import is_of_streams
from hrda_core.untrusted_text import Limits, read_json_file

__all__ = [
    "PART_SUFFIX",
    "cache_folder",
    "check_place",
    "file_sha256",
    "read_json",
    "remove_unfinished",
    "replaced_folder",
    "sync",
    "unfinished",
    "whole_file",
    "write_json",
    "write_whole",
]

PART_SUFFIX = ".part"
"""Ending of everything that is not whole yet."""

_ADVICE = "free space, or give another place"
_ABOUT_NAME = "about.json"
_PART_NAME = re.compile(rf"\.[0-9a-f]{{16}}\{PART_SUFFIX}")
_ABANDONED_S = 3600.0
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # fcntl.h, linux/fs.h


@contextmanager
def whole_file(
    path: Path,
    *,
    error: type[HrdaError] = DataError,
    advice: str = _ADVICE,
    durable: bool = False,
    mode: int | None = None,
) -> Iterator[Path]:
    """Yield the path of an empty file that replaces `path` if the block ends well, and is removed otherwise.

    At every moment `path` is absent, the old file, or the new one whole. Missing folders are made. Processes and
    threads that write the same file do not disturb each other; the last one wins.

    Args:
        path: the file.
        error: class of the error that is raised.
        advice: what the user can do if the file cannot be written.
        durable: make the file survive a power cut. This is slower, since it waits for the disk.
        mode: permissions; None = those of all files that the process makes.

    Raises:
        HrdaError: of the class `error`: there is no space or no permission, or `path` is no file. The old file stays.
    """
    if not path.name:  # as of an empty option
        raise error(f"'{path}' is not the name of a file, and nothing was written: give another place")
    part = path.with_name(f".{secrets.token_hex(8)}{PART_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError("it is not a file")
        if durable:
            _remove_abandoned(path.parent)
        part.touch(exist_ok=False)
        usual = part.stat().st_mode & 0o777
        yield part
        part.chmod(usual if mode is None else mode)  # some libraries put a file for its owner alone in our file's place
        if durable:
            sync(part)
        part.replace(path)
        if durable:
            sync(path.parent)
    except OSError as cause:
        if is_of_streams(cause):
            raise
        kept = "the previous one is kept" if os.path.isfile(path) else "nothing was written"
        raise error(f"'{path}' cannot be written ({_reason(cause, path.parent)}); {kept}: {advice}") from cause
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(
    path: Path,
    content: bytes | str,
    *,
    error: type[HrdaError] = DataError,
    advice: str = _ADVICE,
    durable: bool = False,
    mode: int | None = None,
) -> None:
    """Write bytes, or text as UTF-8; see `whole_file`."""
    with whole_file(path, error=error, advice=advice, durable=durable, mode=mode) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, values: Any) -> None:
    """Write plain values as JSON; see `whole_file`."""
    write_whole(path, json.dumps(values, indent=1) + "\n")


_OWN_FILES = Limits(bytes=1 << 28, depth=50, nodes=20_000_000, string=1 << 24)
"""What hrda wrote itself about hours of recordings."""


def read_json(path: Path) -> Any:
    """Read the plain values of a JSON file.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return read_json_file(path, _OWN_FILES)
    except (OSError, TextError) as error:
        raise DataError(f"'{path}' cannot be read ({error}); delete the working folder and start again") from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 hash of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Return $HRDA_CACHE, else $XDG_CACHE_HOME/hrda, else ~/.cache/hrda, or for a user without a home folder one among
    the temporary files. The folder may not exist yet."""
    if own := os.environ.get("HRDA_CACHE"):
        return Path(own)
    # Relative paths are not valid there by the specification, and `expanduser` gives one for an unknown user.
    for base in (os.environ.get("XDG_CACHE_HOME", ""), os.path.expanduser("~/.cache")):
        if os.path.isabs(base):
            return Path(base) / "hrda"
    base = "/tmp"
    with suppress(FileNotFoundError):  # none can be written to, which whoever writes says
        base = tempfile.gettempdir()
    return Path(base) / f"hrda_{os.getuid()}"


def sync(path: Path) -> None:
    """Make the content of a file, or the renames and removals in a folder, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replaced_folder(
    out: Path,
    marker: str,
    *,
    about: Mapping[str, Any] | None = None,
    resume: bool = False,
    keep: bool = False,
    error: type[HrdaError] = DataError,
) -> Iterator[Path]:
    """Yield the path of a folder below `OUT.part` that replaces `out` if the block ends well.

    At every moment `out` is absent, the old folder, or the new one whole. (Where the file system cannot swap two
    names, as on NFS, a kill between two renames leaves it absent, and the next call brings the old one back.) What a
    killed process left in `OUT.part` is removed, or continued if `resume` says so.

    Args:
        out: place of the results.
        marker: file that the block writes and that identifies results of this kind; other folders are refused.
        about: plain values that say what the result is made of.
        resume: continue what an interrupted block left, if it was begun with the same `about`; see `unfinished`.
        keep: leave `OUT.part` to be resumed when the block fails or is interrupted and has made the folder.
        error: class of the error that is raised.

    Yields:
        The folder to fill, with the last name of `out`. It exists only when work is resumed.

    Raises:
        HrdaError: of the class `error`: `out` is something else than an earlier result, another process is writing
            it, or the disk refuses. The earlier result stays.
    """
    out, text = out.absolute(), json.dumps(dict(about or {}))
    try:
        check_place(out, marker, error=error)
        part = _part_of(out)
        part.mkdir(parents=True, exist_ok=True)
        _check_part(out, error)
        with removed_if_empty(part), locked(part, f"writing '{out}'", error=error, make=True):
            work, old = part / out.name, part / f"{out.name}.old"
            _bring_back(old, out, error)
            if not (resume and unfinished(out) == json.loads(text)):
                _empty(part)
            write_whole(part / _ABOUT_NAME, text, error=error)
            try:
                yield work
                check_place(out, marker, error=error)  # another may have made it, or worked in it, meanwhile
                _take_place(work, out, old)
            finally:
                if not (keep and work.exists()):
                    _empty(part)
    except OSError as cause:
        if is_of_streams(cause):
            raise
        raise error(
            f"'{out}' cannot be written ({_reason(cause, out.parent)}); what was there before is unchanged: {_ADVICE}"
        ) from cause


def check_place(out: Path, *markers: str, error: type[HrdaError] = DataError) -> None:
    """Refuse a place that holds something else than an earlier result, as `replaced_folder` does.

    Args:
        out: place of the results.
        markers: files of which a result has at least one.
        error: class of the error that is raised.

    Raises:
        HrdaError: of the class `error`.
    """
    if out.is_dir() and (not any(out.iterdir()) or any((out / name).is_file() for name in markers)):
        return
    if out.exists():
        raise error(f"'{out}' exists and holds no earlier result ({markers[-1]}); give another place, or remove it")


def unfinished(out: Path) -> dict[str, Any] | None:
    """Return the `about` of an interrupted block of `replaced_folder`, or None if there is nothing to resume."""
    out = out.absolute()
    try:
        about = read_json_file(_part_of(out) / _ABOUT_NAME)
    except (OSError, TextError):
        return None
    return about if isinstance(about, dict) and (_part_of(out) / out.name).is_dir() else None


def remove_unfinished(out: Path) -> None:
    """Remove what a killed block of `replaced_folder` left beside `out`, but nothing of a block that runs."""
    part = _part_of(out.absolute())
    with suppress(HrdaError, OSError), removed_if_empty(part):
        _check_part(out.absolute(), DataError)
        with locked(part, f"clearing '{part}'"):
            _empty(part)


def _part_of(out: Path) -> Path:
    return out.with_name(out.name + PART_SUFFIX)


def _check_part(out: Path, error: type[HrdaError]) -> None:
    """Refuse an `OUT.part` with anything that no block of `replaced_folder` leaves: it is emptied later."""
    part, own = _part_of(out), {LOCK_NAME, _ABOUT_NAME, out.name, f"{out.name}.old", f"{out.name}.new"}
    check_place(part, LOCK_NAME, _ABOUT_NAME, error=error)
    foreign = sorted(entry.name for entry in part.iterdir() if entry.name not in own)
    if foreign := [name for name in foreign if not _PART_NAME.fullmatch(name)]:
        raise error(f"'{part / foreign[0]}' was left by no interrupted call; move it away, or give another place")


def _bring_back(old: Path, out: Path, error: type[HrdaError]) -> None:
    """Undo the first of two renames, between which a process was killed; the caller holds the lock."""
    if not old.exists():
        return
    if not out.exists():
        old.rename(out)
    elif old.with_name(f"{out.name}.new").exists():  # the second rename never came, so somebody else has made `out`
        raise error(f"'{old}' is the result that was in '{out}' before a call was killed; move it away, or remove it")


def _empty(part: Path) -> None:
    """Remove all but the lock, by which the folder is known as ours."""
    for entry in part.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != LOCK_NAME:
            with suppress(OSError):
                entry.unlink()


def _take_place(work: Path, out: Path, old: Path) -> None:
    """Put `work` in the place of `out`; where that fails both are as they were."""
    # Under another name first: after the swap what is called `work` is the old result, which nobody may resume.
    new = work.rename(work.with_name(f"{work.name}.new"))
    try:
        if not out.exists():
            new.rename(out)
        elif not _swap(new, out):
            try:
                out.rename(old)
                new.rename(out)
            except BaseException:
                if not out.exists():
                    old.rename(out)
                raise
    except OSError:
        new.rename(work)
        raise


def _swap(one: Path, other: Path) -> bool:
    """Exchange two names at one moment, which not every file system can; returns whether it did."""
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    names = _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other)
    return call is not None and call(*names, _RENAME_EXCHANGE) == 0


def _remove_abandoned(folder: Path) -> None:
    """Files of `whole_file` whose process was killed. Nobody writes to one without a change for so long."""
    for part in folder.glob(f".*{PART_SUFFIX}"):
        with suppress(OSError):
            if _PART_NAME.fullmatch(part.name) and part.is_file() and time.time() - part.stat().st_mtime > _ABANDONED_S:
                part.unlink()


def _reason(error: OSError, place: Path) -> str:
    """What the system says, and of what, where that does not lie in the folder of the place, such as in `TMPDIR`."""
    reason = error.strerror or str(error) or type(error).__name__
    if not isinstance(error.filename, str) or place.absolute() in Path(error.filename).absolute().parents:
        return reason
    return f"'{shown(error.filename)}': {reason}"
