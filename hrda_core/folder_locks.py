"""Locks of folders, by which two processes that want the same one are told apart.

    with held_folder(run, "training"): ...    for a folder that one process at a time works in
    with locked(folder, "changing it"): ...   for a change to a folder that stays

The kernel holds them: none outlasts its process, and a second process is told who has the folder, and what for.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hrda_core.errors import DataError, HrdaError

__all__ = ["LOCK_NAME", "held_folder", "locked", "removed_if_empty"]

LOCK_NAME = ".lock"
"""File of the lock in a folder that is held; a killed process leaves it, and it holds nobody up."""

_POLL_S, _SAY_EVERY_S = 0.1, 10.0
_held: set[int] = set()  # descriptors of the locks of this process


def _leave_locks_to_the_parent() -> None:
    """A forked child, such as one that loads data, would hold them on where its parent is killed."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_leave_locks_to_the_parent)


@contextmanager
def locked(
    folder: Path,
    doing: str,
    say: Callable[[str], None] | None = None,
    *,
    error: type[HrdaError] = DataError,
    make: bool = False,
) -> Iterator[None]:
    """Hold the lock of a folder. The kernel releases it when its process ends, however it ends.

    Args:
        folder: an existing folder, unless `make` is given.
        doing: what the lock is held for, in the words that follow `process 7 is`.
        say: takes lines for the user while another process holds the lock; None = do not wait.
        error: class of the error that is raised.
        make: make the folder where it is missing, also if the holder before removes it at its end.

    Raises:
        HrdaError: of the class `error`: the folder cannot be written, or another process holds the lock.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = _lock(path, doing, say, error, make)
    except OSError as cause:
        raise error(
            f"folder '{folder}' cannot be written ({cause.strerror}); free space, or give another place"
        ) from cause
    _held.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _held:  # as everywhere but in a forked child
            _held.remove(descriptor)
            with suppress(OSError):
                path.unlink(missing_ok=True)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # until a program that is being started runs, it has it too
            os.close(descriptor)


@contextmanager
def held_folder(folder: Path, doing: str, *, error: type[HrdaError] = DataError) -> Iterator[None]:
    """Make a folder where it is missing, and hold its lock; a folder that is left empty is removed.

    Args:
        folder: the folder.
        doing: as for `locked`.
        error: class of the error that is raised.

    Raises:
        HrdaError: of the class `error`: the folder cannot be written, or another process works in it.
    """
    with removed_if_empty(folder), locked(folder, doing, error=error, make=True):
        yield


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder at the end of the block if nothing lies in it."""
    try:
        yield
    finally:
        with suppress(OSError):
            folder.rmdir()


def _lock(path: Path, doing: str, say: Callable[[str], None] | None, error: type[HrdaError], make: bool) -> int:
    begin, said = time.monotonic(), -_SAY_EVERY_S
    while True:
        if make:
            path.parent.mkdir(parents=True, exist_ok=True)
        if (descriptor := _try_lock(path)) is not None:
            return descriptor
        waited = time.monotonic() - begin
        # Not at the first look: the holder may not have written its number yet, or be about to end.
        if waited >= _POLL_S and (say is None or waited - said >= _SAY_EVERY_S):
            said = waited
            with suppress(FileNotFoundError):  # it has ended just now
                who = f"process {path.read_text(encoding='utf-8', errors='replace') or 'unknown'} is {doing}"
                if say is None:
                    raise error(f"{who}; wait until it has ended, or give another place")
                say(f"{who}; waiting for it, {waited:.0f} s so far")
        time.sleep(_POLL_S)


def _try_lock(path: Path) -> int | None:
    """Descriptor of the locked file, or None where another process has it."""
    descriptor, ours = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder removes the file when it ends: a lock on a file without a name is none.
        if ours := os.fstat(descriptor).st_nlink > 0:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            return descriptor
    except BlockingIOError:
        pass
    except BaseException:  # such as a disk without room for the number
        if ours:
            with suppress(OSError):
                path.unlink()
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
