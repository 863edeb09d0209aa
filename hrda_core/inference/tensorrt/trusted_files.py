"""Reads only files that this user (or root) alone can have written, because a plan is executable code.

Folder and files are checked for their owner, for write permission of group and others, and for symbolic links. The
checks are made on the open file that is then read, not on its name.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hrda_core.errors import BackendError

__all__ = ["check_folder", "read_trusted"]

_WHY = "an engine is executable code"


def check_folder(folder: Path) -> None:
    """Refuse a folder of engines that others can write to, or that is a symbolic link.

    Raises:
        BackendError: it is such a folder; the text says what to do.
        FileNotFoundError: there is no such folder.
    """
    os.close(_open_folder(folder))


def read_trusted(folder: Path, name: str) -> bytes:
    """Read all bytes of a file of a folder of engines.

    Raises:
        BackendError: the folder or the file can be written by others, is a symbolic link, or cannot be read.
        FileNotFoundError: there is no such folder or file.
    """
    where = _open_folder(folder)
    try:
        path = folder / name
        try:
            # O_NONBLOCK: a named pipe would block here for ever.
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=where)
        except FileNotFoundError:
            raise
        except OSError as error:
            if path.is_symlink():
                raise BackendError(_link(path)) from None
            raise BackendError(f"cannot read '{path}' ({error.strerror}); build the engine again") from None
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise BackendError(f"'{path}' is not a file; remove it and build the engine again")
            _check(path, found)
            return file.read()
    finally:
        os.close(where)


def _open_folder(folder: Path) -> int:
    if folder.is_symlink():
        raise BackendError(_link(folder))
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BackendError(f"cannot open the folder of engines '{folder}' ({error.strerror})") from None
    try:
        _check(folder, os.fstat(descriptor))
    except BackendError:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise BackendError(
            f"'{path}' belongs to user {found.st_uid}, expected this user ({os.geteuid()}) or root: {_WHY}; "
            f"build the engine as the user that runs it"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BackendError(
            f"'{path}' can be written by its group or by everyone (mode {stat.S_IMODE(found.st_mode):04o}): {_WHY}; "
            f"run 'chmod go-w {path}' if you trust it, or remove it and build the engine again"
        )


def _link(path: Path) -> str:
    return f"'{path}' is a symbolic link, expected a real file or folder: {_WHY}; put the engines there themselves"
