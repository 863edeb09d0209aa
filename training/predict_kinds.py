"""What the input of `hrda predict` is: recordings, images or videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hrda_core.data.image_files import IMAGE_SUFFIXES
from hrda_core.data.open_frames import VIDEO_SUFFIXES
from hrda_core.data.recordings.recording_files import SUFFIXES as RECORDING_SUFFIXES
from hrda_core.data.recordings.recording_files import storage_kind
from hrda_core.errors import DataError

__all__ = ["kind_of_all"]


def kind_of_all(paths: Sequence[Path]) -> str:
    """Return `recordings`, `images` or `videos`, which all paths are.

    Raises:
        DataError: a path does not exist or is none of these, or they are a mixture.
    """
    kinds = {_kind(path) for path in paths}
    if len(kinds) > 1:
        raise DataError(f"the input is a mixture of {' and '.join(sorted(kinds))}; segment them one kind at a time")
    return kinds.pop()


def _kind(path: Path) -> str:
    """`recordings`, `images` or `videos`: of a folder, what lies in it or, where it is no recording, below it."""
    if not path.exists():
        raise DataError(f"'{path}' does not exist; give recordings, image files and folders, or videos")
    if not path.is_dir():
        return _kind_of_file(path)
    if any(entry.name == "metadata.yaml" or storage_kind(entry) for entry in path.iterdir()):
        return "recordings"
    kinds = {_kind_of_file(entry, refuse=False) for entry in path.rglob("*") if entry.is_file()}
    for kind in ("images", "recordings"):
        if kind in kinds:
            return kind
    raise DataError(f"folder '{path}' holds neither images ({' '.join(IMAGE_SUFFIXES)}) nor recordings; give another")


def _kind_of_file(path: Path, *, refuse: bool = True) -> str:
    suffix = path.suffix.lower()
    if storage_kind(path):
        return "recordings"
    if suffix in IMAGE_SUFFIXES:
        return "images"
    if suffix in VIDEO_SUFFIXES:
        return "videos"
    if refuse:
        raise DataError(
            f"'{path}' is no input by its name; expected recordings ({' '.join(RECORDING_SUFFIXES)}, or a folder), "
            f"images ({' '.join(IMAGE_SUFFIXES)}) or videos ({' '.join(VIDEO_SUFFIXES)})"
        )
    return ""
