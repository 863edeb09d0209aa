"""A folder for a library that writes files; a disk without room is told as that, not in the words of the library."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["scratch_folder"]

_ROOM = 1 << 24
"""Bytes; a library that has just failed for want of room has left less."""


@contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """Yield an empty folder below the environment's `TMPDIR`, which is removed at the end.

    Args:
        name: what it is for; a part of its name.

    Raises:
        OSError: the disk has no room or the process may write no file of that size, whatever the block raised.
    """
    with tempfile.TemporaryDirectory(prefix=f"hrda_{name}_") as folder:
        try:
            yield Path(folder)
        except Exception:
            _need_room(Path(folder) / "room")
            raise


def _need_room(path: Path) -> None:
    try:
        with path.open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, _ROOM)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path.parent)) from error
