"""The stage `frames` of an adaptation: recordings are scanned, and frames are chosen and written as PNG, once.

Training reads the PNGs, so that a damaged recording is salvaged once only and a network drive is read once only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrda_core.data.frame_selection.frame_extraction import JSON_NAME, extract_frames
from hrda_core.data.frame_selection.frame_selection import SelectionConfig, select_frames
from hrda_core.data.frame_selection.selected_frames import ADAPT, HELD_OUT
from hrda_core.data.frames import ImageFrames
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.data.scan.scan import scan
from hrda_core.errors import DataError
from hrda_core.report.selection_page import draw_selection
from hrda_core.whole_files import read_json, write_whole

__all__ = ["Frames", "choose_frames"]

PICTURE_NAME = "selection.jpg"


@dataclass(frozen=True)
class Frames:
    """Chosen frames on disk.

    Attributes:
        adapt: frames to adapt on.
        held_out: frames to judge on, in order of time.
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
) -> Frames:
    """Scan, select and write frames, or read what an earlier call wrote.

    Args:
        bags: recordings.
        folder: where the frames go.
        say: takes a line of text.
        count: called with what is counted, the number done, and the number of all.

    Raises:
        DataError: the recordings cannot be read, or too few of their frames are usable; see `select_frames`.
    """
    if not (folder / JSON_NAME).is_file():
        recordings = Recordings.open(bags, topics, several=not topics)
        found = scan(recordings, progress=lambda done, total: count("images scanned", done, total))
        for salvage in found.salvage:
            lost = "an unknown number" if salvage.lost is None else salvage.lost
            say(f"'{salvage.recording}' is damaged ({salvage.reason}): {salvage.kept} images read, {lost} lost")
        selection = select_frames(found, config)
        say(selection.table())
        extract_frames(recordings, selection, folder, lambda done, total: count("frames written", done, total))
        write_whole(folder / PICTURE_NAME, draw_selection(selection, folder))
    return _opened(folder)


def _opened(folder: Path) -> Frames:
    selection = read_json(folder / JSON_NAME)
    picture = folder / PICTURE_NAME
    pairs = tuple((folder / pair["after_file"], folder / pair["file"]) for pair in selection["neighbours"])
    return Frames(
        adapt=_images(folder / ADAPT),
        held_out=_images(folder / HELD_OUT),
        pairs=pairs,
        selection=selection,
        picture=picture if picture.is_file() else None,
    )


def _images(folder: Path) -> ImageFrames:
    files = tuple(sorted(path.name for path in folder.glob("*.png")))
    if not files:
        raise DataError(f"'{folder}' holds no frames; delete the working folder and start again")
    return ImageFrames("the recording", folder, files)
