"""Opens images without labels from any path: a folder, a video or a recording."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from hrda_core.data.datasets.name_lists import select_names
from hrda_core.data.frames import ImageFrames, UnlabelledFrames
from hrda_core.data.recordings.recording_files import SUFFIXES, storage_kind
from hrda_core.errors import DataError

__all__ = ["VIDEO_SUFFIXES", "open_unlabelled"]

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")


def open_unlabelled(path: Path, *, topic: str = "", names: Sequence[str] | None = None) -> UnlabelledFrames:
    """Open a folder (searched recursively), a video file, or a recording (rosbag2 folder, .mcap, .db3, .bag).

    Args:
        path: path of the images.
        topic: image topic of a recording; empty = its only one.
        names: keep only these images of a folder, in this order; see `hrda_core.data.datasets.labelled.open_labelled`.

    Raises:
        DataError: nothing readable is there, an option does not fit, or there is no image.
        MissingPackageError: the path is a recording, and the package rosbags is not installed.
    """
    kind = _kind(path)
    if names is not None and kind != "folder":
        raise DataError(f"'{path}' is a {kind}; a list of names selects images of a folder only")
    if topic and kind != "recording":
        raise DataError(f"'{path}' is a {kind}; a topic ('{topic}') selects images of a recording only")
    if kind == "recording":
        from hrda_core.data.recordings.recording_frames import open_bag

        return open_bag(path, topic)
    if kind == "video":
        from hrda_core.data.datasets.video_frames import open_video

        return open_video(path)
    found = {image.relative_to(path).as_posix(): image for image in ImageFrames.find(path)}
    chosen = select_names(found, names, "", lambda relative: PurePosixPath(relative).stem, path)
    return ImageFrames(f"'{path}'", path, tuple(relative for relative, _ in chosen))


def _kind(path: Path) -> str:
    if path.is_dir():
        return "recording" if _is_bag_folder(path.iterdir()) else "folder"
    if not path.exists():
        raise DataError(f"'{path}' does not exist; give a folder of images, a video file, or a recording")
    if storage_kind(path):
        return "recording"
    if path.name.lower().endswith(VIDEO_SUFFIXES):
        return "video"
    raise DataError(
        f"'{path}' is no source of images by its name; expected a folder of images, a video "
        f"({' '.join(VIDEO_SUFFIXES)}) or a recording (rosbag2 folder, {' '.join(SUFFIXES)})"
    )


def _is_bag_folder(entries: Iterable[Path]) -> bool:
    return any(entry.name == "metadata.yaml" or storage_kind(entry) for entry in entries)
