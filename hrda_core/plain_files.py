"""Opens files that a user names, and nothing else: a named pipe would wait for ever, and a device never ends."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

__all__ = ["check_file", "is_file", "open_file"]


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: it is missing, it cannot be read, or it is a named pipe, a device or a folder.
    """
    check_file(path)
    return path.open("rb")


def check_file(path: Path) -> None:
    """Refuse what is there and is no file.

    Raises:
        OSError: it is a named pipe, a device or a folder.
    """
    if path.exists() and not path.is_file():
        raise OSError("it is not a file")


def is_file(path: Path) -> bool:
    """Return whether there is a file of this name. A name from a file may be longer than any disk takes: there is none.

    Args:
        path: of which `Path.is_file` raises an error where it is too long.
    """
    try:
        return path.is_file()
    except OSError:
        return False
