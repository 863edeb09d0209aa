"""The machine-readable file that a command writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hrda_core.errors import DataError

__all__ = ["write_json", "write_whole"]


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
