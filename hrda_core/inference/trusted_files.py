"""Reads only files that this user (or root) alone can have written, because what a device runs is executable code.

Folder and files are checked for their owner, for write permission of group and others, and for symbolic links. The
checks are made on the open file that is then read, not on its name.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from hrda_core.errors import BackendError

__all__ = ["ENGINE", "Kind", "check_folder", "read_trusted"]


@dataclass(frozen=True)
class Kind:
    """What the files are, in the words of the sentences: one of them, all of them, and how to get a new one."""

    one: str
    all: str
    again: str

    @property
    def why(self) -> str:
        """Return why not every file is read."""
        return f"{self.one} is executable code"


ENGINE = Kind("an engine", "engines", "build the engine again")


def check_folder(folder: Path, kind: Kind = ENGINE) -> None:
    """Refuse a folder that others can write to, or that is a symbolic link.

    Raises:
        BackendError: it is such a folder; the text says what to do.
        FileNotFoundError: there is no such folder.
    """
    os.close(_open_folder(folder, kind))


def read_trusted(folder: Path, name: str, kind: Kind = ENGINE) -> bytes:
    """Read all bytes of a file of a folder.

    Raises:
        BackendError: the folder or the file can be written by others, is a symbolic link, or cannot be read.
        FileNotFoundError: there is no such folder or file.
    """
    where = _open_folder(folder, kind)
    try:
        path = folder / name
        try:
            # O_NONBLOCK: a named pipe would block here for ever.
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=where)
        except FileNotFoundError:
            raise
        except OSError as error:
            if path.is_symlink():
                raise BackendError(_link(path, kind)) from None
            raise BackendError(f"cannot read '{path}' ({error.strerror}); {kind.again}") from None
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):  # before `fdopen`, which refuses a folder in its own way
            os.close(descriptor)
            raise BackendError(f"'{path}' is not a file; remove it and {kind.again}")
        with os.fdopen(descriptor, "rb") as file:
            _check(path, found, kind)
            return file.read()
    finally:
        os.close(where)


def _open_folder(folder: Path, kind: Kind) -> int:
    if folder.is_symlink():
        raise BackendError(_link(folder, kind))
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BackendError(f"cannot open the folder of {kind.all} '{folder}' ({error.strerror})") from None
    try:
        _check(folder, os.fstat(descriptor), kind)
    except BackendError:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: Path, found: os.stat_result, kind: Kind) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise BackendError(
            f"'{path}' belongs to user {found.st_uid}, expected this user ({os.geteuid()}) or root: {kind.why}; "
            f"{kind.again} as the user that runs it"
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BackendError(
            f"'{path}' can be written by its group or by everyone (mode {stat.S_IMODE(found.st_mode):04o}): "
            f"{kind.why}; run 'chmod go-w {path}' if you trust it, or remove it and {kind.again}"
        )


def _link(path: Path, kind: Kind) -> str:
    return (
        f"'{path}' is a symbolic link, expected a real file or folder: {kind.why}; put the {kind.all} there themselves"
    )
