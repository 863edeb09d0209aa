"""The stage `frames` of an adaptation: recordings are scanned, and frames are chosen and written as PNG, once.

Training reads the PNGs, so that a damaged recording is salvaged once only and a network drive is read once only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hrda_core.camera_areas import CameraAreas
from hrda_core.data.frame_selection.frame_extraction import JSON_NAME, extract_frames
from hrda_core.data.frame_selection.frame_selection import SelectionConfig, select_frames
from hrda_core.data.frame_selection.parallel_extraction import parallel_extraction
from hrda_core.data.frame_selection.selected_frames import ADAPT, HELD_OUT, Selection
from hrda_core.data.frames import ImageFrames
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.data.recordings.worker_choice import WorkerChoice, Workers
from hrda_core.data.scan.parallel_scan import parallel_scan
from hrda_core.data.scan.scan import scan
from hrda_core.errors import DataError
from hrda_core.messages.picture_size import MAX_MEGAPIXELS
from hrda_core.messages.value_range import range_of
from hrda_core.report.selection_page import draw_selection
from hrda_core.whole_files import read_json, write_whole

__all__ = ["Frames", "choose_frames"]

PICTURE_NAME = "selection.jpg"

_ALONE = WorkerChoice()


@dataclass(frozen=True)
class Frames:
    """Chosen frames on disk.

    Attributes:
        adapt: frames to adapt on.
        held_out: frames to judge on, camera by camera in the order of recording.
        pairs: pairs of a held-out frame and the image right after it.
        selection: what became of every analysed frame, plain values (`Selection.to_dict`).
        picture: picture of the selection; None where there is none.
    """

    adapt: ImageFrames
    held_out: ImageFrames
    pairs: tuple[tuple[Path, Path], ...]
    selection: Mapping[str, Any]
    picture: Path | None

    @property
    def counts(self) -> Mapping[str, int]:
        """Return the number of frames by what became of them."""
        counts: Mapping[str, int] = self.selection["counts"]
        return counts


def choose_frames(
    bags: Sequence[Path],
    topics: Sequence[str],
    folder: Path,
    config: SelectionConfig,
    say: Callable[[str], None],
    count: Callable[[str, int, int], None],
    value_range: tuple[int, int] | None = None,
    areas: CameraAreas | None = None,
    max_megapixels: int = MAX_MEGAPIXELS,
    workers: WorkerChoice = _ALONE,
) -> Frames:
    """Scan, select and write frames, or read what an earlier call wrote.

    Args:
        bags: recordings.
        folder: where the frames go.
        say: takes a line of text.
        count: called with what is counted, the number done, and the number of all.
        value_range: values of 16-bit pixels that become 0 and 255; None = by the values.
        areas: what of the pictures counts: frames are cut to the largest rectangle of such pixels; None = all.
        max_megapixels: larger pictures are not decoded, in millions of pixels.
        workers: what reads recordings side by side; the frames are the same, whatever it is.

    Raises:
        DataError: the recordings cannot be read, or too few of their frames are usable; see `select_frames`.
        RecipeError: nobody answers at the address of the cluster.
    """
    if not (folder / JSON_NAME).is_file():
        with workers.open(say) as opened:  # first of all: recordings may take minutes to list
            recordings = Recordings.open(
                workers.paths(bags),
                topics,
                several=not topics,
                value_range=range_of(value_range),
                areas=areas,
                max_megapixels=max_megapixels,
            )
            helpers = opened if workers.help_with(len(recordings.parts())) else None
            selection = _chosen(recordings, folder, config, say, count, helpers)
        write_whole(folder / PICTURE_NAME, draw_selection(selection, folder, max_megapixels))
    return _opened(folder, max_megapixels)


def _chosen(
    recordings: Recordings,
    folder: Path,
    config: SelectionConfig,
    say: Callable[[str], None],
    count: Callable[[str, int, int], None],
    workers: Workers | None,
) -> Selection:
    """Scan, tell, select and write."""

    def scanned(done: int, total: int) -> None:
        count("images scanned", done, total)

    def written(done: int, total: int) -> None:
        count("frames written", done, total)

    found = (
        scan(recordings, progress=scanned) if workers is None else parallel_scan(recordings, workers, progress=scanned)
    )
    for remark in recordings.remarks:
        say(remark)
    for salvage in found.salvage:
        lost = "an unknown number" if salvage.lost is None else salvage.lost
        say(f"'{salvage.recording}' is damaged ({salvage.reason}): {salvage.kept} images read, {lost} lost")
    for remark in recordings.value_remarks:
        say(remark)
    selection = select_frames(found, config)
    say(selection.table())
    if workers is None or recordings.range_grows:
        extract_frames(recordings, selection, folder, written)
    else:
        parallel_extraction(recordings, found, selection, folder, workers, written)
    return selection


def _opened(folder: Path, max_megapixels: int) -> Frames:
    selection = read_json(folder / JSON_NAME)
    picture = folder / PICTURE_NAME
    pairs = tuple((folder / pair["after_file"], folder / pair["file"]) for pair in selection["neighbours"])
    return Frames(
        adapt=_images(folder / ADAPT, selection, max_megapixels),
        held_out=_images(folder / HELD_OUT, selection, max_megapixels),
        pairs=pairs,
        selection=selection,
        picture=picture if picture.is_file() else None,
    )


def _images(folder: Path, selection: Mapping[str, Any], max_megapixels: int) -> ImageFrames:
    """Frames in the order of recording. Their names would sort them by a clock that may have been set back."""
    paths = (PurePosixPath(row["file"]) for row in selection["rows"])
    files = tuple(path.name for path in paths if path.parent.name == folder.name and (folder / path.name).is_file())
    if not files:
        raise DataError(f"'{folder}' holds no frames; delete the working folder and start again")
    return ImageFrames("the recording", folder, files, max_megapixels=max_megapixels)
