"""Folders for temporary files, and what is said where there is no room for them.

    with temporary_folder("recording") as folder: ...   for files of our own
    with scratch_folder("fold") as folder: ...           for a library that writes files

In the second a disk without room is told as that, not in the words of the library.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hrda_core.errors import DataError

__all__ = ["no_temporary_folder", "scratch_folder", "temporary_folder"]

_ROOM = 1 << 24
"""Bytes; a library that has just failed for want of room has left less."""


def no_temporary_folder(error: OSError) -> str | None:
    """Return the sentence on what Python raises where no temporary file can be written; None for another error."""
    if error.filename is not None or "No usable temporary directory" not in str(error):
        return None
    return (
        f"no folder for temporary files can be written to ({error.strerror}); make room, or let TMPDIR name a folder "
        f"that can be written"
    )


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """Yield an empty folder below the environment's `TMPDIR`, which is removed at the end.

    Args:
        name: what it is for; a part of its name.

    Raises:
        DataError: no folder for temporary files can be written to, as in a container whose file system is read-only.
        OSError: the disk has no room.
    """
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise DataError(no_temporary_folder(error)) from error
    with tempfile.TemporaryDirectory(prefix=f"hrda_{name}_", dir=place) as folder:
        yield Path(folder)


@contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """As `temporary_folder`, for a library that writes there.

    Args:
        name: what it is for; a part of its name.

    Raises:
        DataError: as `temporary_folder`.
        OSError: the disk has no room or the process may write no file of that size, whatever the block raised.
    """
    with temporary_folder(name) as folder:
        try:
            yield folder
        except Exception:
            _need_room(folder / "room")
            raise


def _need_room(path: Path) -> None:
    try:
        with path.open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, _ROOM)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path.parent)) from error
