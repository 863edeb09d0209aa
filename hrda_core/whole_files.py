"""Writing a file whole or not at all, and one process at a time in a folder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hrda_core.errors import BackendError, DataError

__all__ = [
    "PART_SUFFIX",
    "cache_folder",
    "file_sha256",
    "locked",
    "read_json",
    "replaced_folder",
    "sync_folder",
    "write_file",
    "write_json",
    "write_whole",
]

PART_SUFFIX = ".part"
_LOCK_NAME = ".lock"
_POLL_S, _SAY_EVERY_S = 0.1, 10.0


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that at every moment, also after a power cut, it is absent, the old one, or the new one whole.

    Raises:
        OSError: no space, no permission; nothing of the new file is left.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART_SUFFIX)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            # Readable for the user who runs what root has built; writable for the owner alone, whatever the umask.
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a folder; waits while another process holds it, and says so.

    The kernel frees the lock when its process ends, however it ends.

    Raises:
        BackendError: the lock file cannot be opened for writing.
    """
    try:
        descriptor = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise BackendError(f"cannot write to the folder of engines '{folder}' ({error.strerror})") from error
    try:
        _wait_for(descriptor, folder, say)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int, folder: Path, say: Callable[[str], None]) -> None:
    begin = time.monotonic()
    said = -_SAY_EVERY_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # noqa: PERF203
            waited = time.monotonic() - begin
            # Not at the first look: the holder may not have written its number yet.
            if waited >= _POLL_S and waited - said >= _SAY_EVERY_S:
                said = waited
                holder = os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
                say(f"process {holder} is building an engine in '{folder}'; waiting for it, {waited:.0f} s so far")
            time.sleep(_POLL_S)
        else:
            return


def cache_folder() -> Path:
    """$HRDA_CACHE, else $XDG_CACHE_HOME/hrda, else ~/.cache/hrda. It need not exist."""
    if own := os.environ.get("HRDA_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "hrda"


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


@contextmanager
def replaced_folder(
    out: Path, marker: str, about: Mapping[str, Any], *, resume: bool = False, keep: bool = False
) -> Iterator[Path]:
    """Give the path of a folder in `OUT.part` that takes the place of `out` when the block ends well.

    Args:
        out: where the results shall be. An earlier result is replaced when the new one is whole.
        marker: name of a JSON file that tells results of this kind; other folders are refused.
        about: what the marker says.
        resume: go on with what an interrupted block left in `OUT.part`, if its marker says the same as `about`;
            otherwise that is deleted.
        keep: leave `OUT.part` to be resumed when the block fails or is interrupted.

    Yields:
        The folder to fill. It exists only where work is resumed.

    Raises:
        DataError: `out` is something else than an earlier result, the work to be resumed was begun otherwise, or the
            disk refuses.
    """
    out = out.absolute()
    part = out.with_name(out.name + ".part")
    for folder in (out, part):
        _refuse_foreign(folder, marker)
    work = part / out.name
    try:
        _begin(part, marker, about, resume)
        try:
            yield work
            (part / marker).replace(work / marker)
            _take_place(work, out)
            part.rmdir()
        except BaseException:
            if not (keep and work.exists()):
                shutil.rmtree(part, ignore_errors=True)
            raise
    except OSError as error:
        raise DataError(
            f"'{out}' cannot be written ({error.strerror or error}); make room, or give another --out"
        ) from error


def _refuse_foreign(folder: Path, marker: str) -> None:
    if folder.is_dir() and (not any(folder.iterdir()) or (folder / marker).is_file()):
        return
    if folder.exists():
        raise DataError(f"'{folder}' exists and holds no earlier result ({marker}); give another --out, or remove it")


def _begin(part: Path, marker: str, about: Mapping[str, Any], resume: bool) -> None:
    if resume and (part / marker).is_file():
        _check_same(part / marker, about)
    elif part.exists():
        shutil.rmtree(part)
    write_file(part / marker, (json.dumps(about, indent=1) + "\n").encode())


def _check_same(path: Path, about: Mapping[str, Any]) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    other = [key for key in about if before.get(key) != about[key]]
    if other:
        raise DataError(
            f"'{path.parent}' was begun with another {', '.join(other)}; "
            f"leave --resume out to start over, or give the same options"
        )


def _take_place(work: Path, out: Path) -> None:
    """Rename `work` to `out`; the earlier result stays until then and is brought back if the rename fails."""
    if not out.exists():
        work.rename(out)
        return
    aside = work.with_name(work.name + ".old")
    out.rename(aside)
    try:
        work.rename(out)
    except OSError:
        aside.rename(out)
        raise
    shutil.rmtree(aside)


def write_json(path: Path, values: Any) -> None:
    """Write plain values, whole or not at all.

    Raises:
        DataError: the disk is full or the folder not writable.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise DataError(f"'{path}' cannot be written ({error.strerror}); free space or make it writable") from error


def read_json(path: Path) -> Any:
    """Read plain values.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"'{path}' cannot be read ({error}); delete the working folder and start again") from error


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
