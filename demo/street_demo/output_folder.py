"""The output folder appears whole or not at all: results are built beside it and renamed into place."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from street_demo.errors import DemoError

__all__ = ["MARKER", "replaced_folder"]

MARKER = "summary.json"
"""A folder with this file is an earlier result of the demo and may be replaced."""


@contextlib.contextmanager
def replaced_folder(out: Path) -> Iterator[Path]:
    """Give a fresh folder beside `out` that takes its place when the block ends well, and vanishes when it does not.

    Raises:
        DemoError: `out` is something else than an earlier result, or its parent cannot be written.
    """
    out = out.absolute()
    _refuse_foreign(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f"{out.name}.", suffix=".part", dir=out.parent))
    except OSError as error:
        raise DemoError(f"folder '{out.parent}' cannot be written ({error.strerror}); give another --out") from error
    try:
        work.chmod(0o755)
        yield work
        _take_place(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _refuse_foreign(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise DemoError(f"the output folder '{out}' is a file; give another --out")
    if any(out.iterdir()) and not (out / MARKER).is_file():
        raise DemoError(f"the folder '{out}' holds files that the demo did not make; give another --out or empty it")


def _take_place(work: Path, out: Path) -> None:
    """Rename `work` to `out`; the earlier result stays until then and is brought back if the rename fails."""
    if not out.exists():
        work.rename(out)
        return
    aside = work.with_name(work.name + ".old.part")
    out.rename(aside)
    try:
        work.rename(out)
    except OSError:
        aside.rename(out)
        raise
    shutil.rmtree(aside, ignore_errors=True)
