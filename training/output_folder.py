"""A folder of results that appears whole or not at all: built beside its place, then renamed into it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hrda_core.errors import DataError

__all__ = ["replaced_folder", "write_file"]


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


@contextmanager
def replaced_folder(
    out: Path, marker: str, about: Mapping[str, Any], *, resume: bool = False, keep: bool = False
) -> Iterator[Path]:
    """Give the path of a folder in `OUT.part` that takes the place of `out` when the block ends well.

    Args:
        out: where the results shall be. An earlier result is replaced when the new one is whole.
        marker: name of a JSON file that tells results of this kind; other folders are refused.
        about: what the marker says.
        resume: go on with what an interrupted block left in `OUT.part`, if its marker says the same as `about`;
            otherwise that is deleted.
        keep: leave `OUT.part` to be resumed when the block fails or is interrupted.

    Yields:
        The folder to fill. It exists only where work is resumed.

    Raises:
        DataError: `out` is something else than an earlier result, the work to be resumed was begun otherwise, or the
            disk refuses.
    """
    out = out.absolute()
    part = out.with_name(out.name + ".part")
    for folder in (out, part):
        _refuse_foreign(folder, marker)
    work = part / out.name
    try:
        _begin(part, marker, about, resume)
        try:
            yield work
            (part / marker).replace(work / marker)
            _take_place(work, out)
            part.rmdir()
        except BaseException:
            if not (keep and work.exists()):
                shutil.rmtree(part, ignore_errors=True)
            raise
    except OSError as error:
        raise DataError(
            f"'{out}' cannot be written ({error.strerror or error}); make room, or give another --out"
        ) from error


def _refuse_foreign(folder: Path, marker: str) -> None:
    if folder.is_dir() and (not any(folder.iterdir()) or (folder / marker).is_file()):
        return
    if folder.exists():
        raise DataError(f"'{folder}' exists and holds no earlier result ({marker}); give another --out, or remove it")


def _begin(part: Path, marker: str, about: Mapping[str, Any], resume: bool) -> None:
    if resume and (part / marker).is_file():
        _check_same(part / marker, about)
    elif part.exists():
        shutil.rmtree(part)
    write_file(part / marker, (json.dumps(about, indent=1) + "\n").encode())


def _check_same(path: Path, about: Mapping[str, Any]) -> None:
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    other = [key for key in about if before.get(key) != about[key]]
    if other:
        raise DataError(
            f"'{path.parent}' was begun with another {', '.join(other)}; "
            f"leave --resume out to start over, or give the same options"
        )


def _take_place(work: Path, out: Path) -> None:
    """Rename `work` to `out`; the earlier result stays until then and is brought back if the rename fails."""
    if not out.exists():
        work.rename(out)
        return
    aside = work.with_name(work.name + ".old")
    out.rename(aside)
    try:
        work.rename(out)
    except OSError:
        aside.rename(out)
        raise
    shutil.rmtree(aside)
