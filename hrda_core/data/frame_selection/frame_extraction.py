"""Writes selected frames as image files, in a second pass over the recordings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from hrda_core.data.frame_selection.selected_frames import NEIGHBOURS, Neighbour, Selection
from hrda_core.data.image_files import UInt8Array, encoded, image_size
from hrda_core.data.recordings.recordings import RecordedImage, Recordings
from hrda_core.data.scan.camera_scan import AnalysedFrame, FrameKey
from hrda_core.data.scan.frame_quality import thumbnail
from hrda_core.errors import DataError, ImageError
from hrda_core.whole_files import write_json, write_whole

__all__ = ["CSV_NAME", "JSON_NAME", "Missing", "extract_frames", "finish", "missing_files", "write_frames"]

JSON_NAME, CSV_NAME = "selection.json", "selection.csv"

Missing = dict[FrameKey, list[tuple[str, int]]]
"""Image -> files that it is to be written to, with its time stamp."""


def extract_frames(
    recordings: Recordings,
    selection: Selection,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `adapt/`, `held_out/`, `neighbours/` as PNG, `rejected/` as small JPEG, selection.json and selection.csv.

    Each file appears whole or not at all and existing files are left alone, so an interrupted call is continued by
    calling again. An image after a held-out frame that does not decode, or has another size, is left out with its pair.

    Args:
        recordings: those that were scanned, opened with the same topics.
        progress: called with the number of files done and of all.

    Raises:
        DataError: the recordings are not those that were scanned, or the folder cannot be written.
    """
    missing = missing_files(selection, folder)
    undecodable = write_frames(recordings, missing.places, folder, lambda left: _report(progress, missing.total, left))
    finish(selection, folder, undecodable)


class MissingFiles(NamedTuple):
    """Files that are to be written: where they come from, how many there are, and how many of a selection in all."""

    places: Missing
    left: int
    total: int


def missing_files(selection: Selection, folder: Path) -> MissingFiles:
    """Return the files of a selection that are not in the folder."""
    files: dict[str, AnalysedFrame | Neighbour] = {row.file: row.frame for row in selection.rows if row.file}
    files |= {pair.file: pair for pair in selection.neighbours if pair.file not in files}
    missing: Missing = defaultdict(list)
    for file, frame in files.items():
        if not (folder / file).is_file():
            missing[frame.key].append((file, frame.stamp_ns))
    return MissingFiles(missing, _count(missing), len(files))


def finish(selection: Selection, folder: Path, undecodable: Collection[str]) -> None:
    """Write selection.json and selection.csv, without the pairs whose second image was not written or differs in size.

    Raises:
        DataError: the folder cannot be written.
    """
    pairs = tuple(
        pair
        for pair in selection.neighbours
        if pair.file not in undecodable and image_size(folder / pair.file) == image_size(folder / pair.after_file)
    )
    selection = replace(selection, neighbours=pairs)
    write_json(folder / JSON_NAME, selection.to_dict())
    write_whole(folder / CSV_NAME, selection.to_csv())


def write_frames(recordings: Recordings, missing: Missing, folder: Path, report: Callable[[int], None]) -> set[str]:
    """Write the missing files; reading ends with the last of them. Return those that do not decode.

    Args:
        missing: emptied on the way.
        report: called with the number of files that are left.

    Raises:
        DataError: as `extract_frames`.
    """
    undecodable: set[str] = set()
    report(_count(missing))
    if not missing:
        return undecodable
    with closing(recordings.images()) as images:  # type: ignore[type-var]
        for image in images:
            places = missing.pop((image.topic, image.number), [])
            for file, stamp_ns in places:
                if image.stamp_ns != stamp_ns:
                    raise _changed(folder)
                rgb = _decoded(image, file, folder)
                if rgb is None:
                    undecodable.add(file)
                else:
                    _write_picture(folder / file, rgb)
            if places:
                report(_count(missing))
            if not missing:
                return undecodable
    raise _changed(folder)


def _decoded(image: RecordedImage, file: str, folder: Path) -> UInt8Array | None:
    try:
        return image.decode()
    except ImageError:
        if not file.startswith(f"{NEIGHBOURS}/"):  # it was decoded when it was analysed
            raise _changed(folder) from None
        return None


def _count(missing: Missing) -> int:
    return sum(len(places) for places in missing.values())


def _changed(folder: Path) -> DataError:
    return DataError(
        f"the recordings hold other images than those that frames were selected from; delete '{folder}' and start again"
    )


def _write_picture(path: Path, rgb: UInt8Array) -> None:
    if path.suffix == ".jpg":
        rgb = thumbnail(rgb)
    write_whole(path, encoded(rgb, path.suffix))


def _report(progress: Callable[[int, int], None] | None, total: int, left: int) -> None:
    if progress is not None and total:
        progress(total - left, total)
