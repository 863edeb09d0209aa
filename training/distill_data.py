"""The data of `hrda distill`: a folder's images or frames of recordings, and labelled images if any are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hrda_core.errors import DataError, HrdaError
from hrda_core.labels import LabelSpace
from hrda_core.whole_files import write_whole

if TYPE_CHECKING:
    from hrda_core.adaptation.recipe import SourceFolder
    from hrda_core.adaptation.workspace import Workspace
    from hrda_core.data.frames import ImageFrames

    from .distill import DistillRequest

__all__ = ["DistillData", "open_data"]

Say = Callable[[str], None]
Count = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DistillData:
    """Images to learn on and to measure on, and the labelled images if there are any.

    Attributes:
        train, held_out: unlabelled images.
        names: file that lists `train`; None = all of its folder.
        description: text for the model card.
        source: labelled images.
    """

    train: ImageFrames
    held_out: ImageFrames
    names: Path | None
    description: str
    source: SourceFolder | None


def open_data(request: DistillRequest, space: LabelSpace, work: Workspace, say: Say, count: Count) -> DistillData:
    """Open the images and the labelled source, in the classes of `space`.

    Raises:
        HrdaError: nothing usable is there; a working folder without results is removed again.
    """
    from hrda_core.adaptation.stages.frames import choose_frames
    from hrda_core.data.frame_selection.frame_selection import SelectionConfig

    try:
        source = _source(request, space, work, say, count)
        if request.images is not None:
            return _split(request, request.images, work, source)
        selection = SelectionConfig(budget=request.frames, held_out=request.held_out)
        with work.stage("frames", f"choosing from {', '.join(bag.name for bag in request.bag)}"):
            place = work.path("frames")
            frames = choose_frames(request.bag, request.topic, place, selection, say, count, workers=request.readers)
    except HrdaError:
        work.discard_if_empty()
        raise
    text = f"{len(frames.adapt)} frames of {', '.join(bag.name for bag in request.bag)}"
    return DistillData(frames.adapt, frames.held_out, None, text, source)


def _split(request: DistillRequest, folder: Path, work: Workspace, source: SourceFolder | None) -> DistillData:
    """A folder's images: the last ones in order of their names are held out."""
    from hrda_core.data.frames import ImageFrames
    from hrda_core.data.image_files import read_names
    from hrda_core.data.open_frames import open_unlabelled

    if not folder.is_dir():
        raise DataError(f"--images '{folder}' is not a folder; give a folder of images, or --bag for recordings")
    found = open_unlabelled(folder, names=None if request.list is None else read_names(request.list))
    if not isinstance(found, ImageFrames):
        raise DataError(f"--images '{folder}' is a recording; give it with --bag")
    if len(found) < 2:
        raise DataError(f"'{folder}' has {len(found)} image; expected 2 or more: one is measured on")
    kept = len(found) - max(1, round(request.held_out * len(found)))
    names = work.path("images.txt")
    write_whole(names, "".join(f"{file}\n" for file in found.files[:kept]))
    train, held_out = replace(found, files=found.files[:kept]), replace(found, files=found.files[kept:])
    return DistillData(train, held_out, names, f"{kept} images of {folder}", source)


def _source(request: DistillRequest, space: LabelSpace, work: Workspace, say: Say, count: Count) -> SourceFolder | None:
    from hrda_core.adaptation.stages.source import Wanted, open_or_make_pack

    if not request.source:
        return None
    source = open_or_make_pack(
        request.source,
        work.path("source"),
        Wanted(space),
        seed=request.seed,
        say=say,
        progress=lambda done, total: count("source images", done, total),
        command="hrda distill",
    )
    return source.folder
