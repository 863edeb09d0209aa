"""Opens files that a user names, and nothing else: a named pipe would wait for ever, and a device never ends."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["NoFileError", "check_file", "copy_file", "is_file", "open_file", "read_file"]


class NoFileError(OSError):
    """There is something else than a file of this name. As errors of the system it has a number and the name."""

    def __str__(self) -> str:
        return str(self.strerror)


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: it is missing or cannot be read.
        NoFileError: it is a named pipe, a device or a folder.
    """
    check_file(path)  # to open some devices does something
    # Another process may have put a pipe there since. Without waiting, which means nothing to a file, it opens at once.
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise _no_file(path)
    return os.fdopen(number, "rb")


def read_file(path: Path) -> bytes:
    """Return what a file holds; raises as `open_file`."""
    with open_file(path) as file:
        return file.read()


def copy_file(path: Path, target: Path) -> None:
    """Copy what a file holds, without its permissions; raises as `open_file`, and where the target cannot be written.

    `shutil.copyfile` waits for ever for a pipe that another process puts there just now.
    """
    with open_file(path) as file, target.open("wb") as copy:
        shutil.copyfileobj(file, copy, 1 << 20)


def check_file(path: Path) -> None:
    """Refuse what is there and is no file.

    Raises:
        NoFileError: it is a named pipe, a device or a folder.
    """
    if path.exists() and not path.is_file():
        raise _no_file(path)


def is_file(path: Path) -> bool:
    """Return whether there is a file of this name. A name from a file may be longer than any disk takes: there is none.

    Args:
        path: of which `Path.is_file` raises an error where it is too long.
    """
    try:
        return path.is_file()
    except OSError:
        return False


def _no_file(path: Path) -> NoFileError:
    return NoFileError(errno.ENXIO, "it is not a file", str(path))
