"""What the commands write besides their results: progress, and a machine-readable file."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from hrda_core.errors import DataError

__all__ = ["Progress", "write_json", "write_whole"]


class Progress:
    """How much is done and the time that is left: overwritten on a terminal, elsewhere a line in a while.

    Args:
        what: is counted, for example `images`.
    """

    _every_s = 30.0

    def __init__(self, what: str) -> None:
        self._what = what
        self._begin = self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        left = (now - self._begin) / max(done, 1) * (total - done)
        text = f"{done}/{total} {self._what}, {left // 60:.0f} min {left % 60:.0f} s left"
        if sys.stderr.isatty():
            print(f"\r{text}   ", end="" if done < total else "\n", file=sys.stderr, flush=True)
        elif now - self._last >= self._every_s:
            self._last = now
            print(text, file=sys.stderr, flush=True)


def write_json(path: Path, values: Any) -> None:
    """Write plain values for `--json`, whole or not at all.

    Raises:
        DataError: the file cannot be written.
    """
    write_whole(path, (json.dumps(values, indent=1) + "\n").encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, then put it there.

    Raises:
        DataError: the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        raise DataError(
            f"'{path}' cannot be written ({error.strerror}); give a file in a folder that exists"
        ) from error
