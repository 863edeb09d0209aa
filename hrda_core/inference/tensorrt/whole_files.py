"""Writing a file whole or not at all, and one process at a time in a folder."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hrda_core.errors import BackendError

__all__ = ["PART_SUFFIX", "locked", "sync_folder", "write_whole"]

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
