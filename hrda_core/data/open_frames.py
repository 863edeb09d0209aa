"""Opens images without labels from any path: a folder, a video or a recording."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from hrda_core.data.datasets.name_lists import select_names
from hrda_core.data.frames import ImageFrames, UnlabelledFrames, find_images
from hrda_core.data.recordings.recording_files import SUFFIXES, storage_kind
from hrda_core.errors import DataError
from hrda_core.messages.picture_size import MAX_MEGAPIXELS
from hrda_core.messages.value_range import ValueRange

__all__ = ["VIDEO_SUFFIXES", "open_unlabelled"]

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")


def open_unlabelled(
    path: Path,
    *,
    topic: str = "",
    names: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    value_range: ValueRange | None = None,
    max_megapixels: int = MAX_MEGAPIXELS,
) -> UnlabelledFrames:
    """Open a folder (searched recursively), a video file, or a recording (rosbag2 folder, .mcap, .db3, .bag).

    Args:
        path: path of the images.
        topic: image topic of a recording; empty = its only one.
        names: keep only these images of a folder, in this order; see `hrda_core.data.datasets.labelled.open_labelled`.
        exclude: leave out these images of a folder; written as `names`.
        value_range: values of 16-bit pixels that become 0 and 255; None = by the values of some images.
        max_megapixels: images whose header states more million pixels cannot be read.

    Raises:
        DataError: nothing readable is there, an option does not fit, or there is no image.
        MissingPackageError: the path is a recording, and the package rosbags is not installed.
    """
    kind = _kind(path)
    if names is not None and kind != "folder":
        raise DataError(f"'{path}' is a {kind}; a list of names selects images of a folder only")
    if exclude and kind != "folder":
        raise DataError(f"'{path}' is a {kind}; exclude leaves out images of a folder only")
    if topic and kind != "recording":
        raise DataError(f"'{path}' is a {kind}; a topic ('{topic}') selects images of a recording only")
    if kind == "recording":
        from hrda_core.data.recordings.recording_frames import open_bag

        return open_bag(path, topic, value_range, max_megapixels)
    if kind == "video":
        from hrda_core.data.datasets.video_frames import open_video

        return open_video(path, max_megapixels)
    images, left_out = find_images(path)
    found = {image.relative_to(path).as_posix(): image for image in images}
    chosen = select_names(found, names, "", lambda relative: PurePosixPath(relative).stem, path, exclude)
    files = tuple(relative for relative, _ in chosen)
    frames = ImageFrames(f"'{path}'", path, files, left_out, max_megapixels=max_megapixels)
    return frames.measured(value_range)


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
