"""Segments image files and videos into a folder of masks and pictures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.camera_areas import CameraArea
from hrda_core.data.datasets.servers import Server
from hrda_core.data.datasets.video_frames import open_capture
from hrda_core.data.frames import ImageFrames
from hrda_core.data.image_files import encoded, image_range, opencv_path, read_image
from hrda_core.errors import DataError
from hrda_core.messages.picture_size import MAX_MEGAPIXELS
from hrda_core.messages.value_range import ValueRange
from hrda_core.whole_files import PART_SUFFIX, write_whole

from .segmentation import Pictures, Segment, Tally, segmented

__all__ = ["MaskFiles", "ServerFiles", "predict_images", "predict_videos"]

UInt8Array = npt.NDArray[np.uint8]

_SUFFIXES = {"labels": ".png", "color": ".png", "overlay": ".jpg", "confidence": ".png"}
_VIDEO_CODEC = "mp4v"  # the one that every build of opencv-python-headless can write
_USUAL_FPS = 30.0


@dataclass(frozen=True)
class MaskFiles:
    """The files of one result: `OUTPUT/NAME.png`, or `.jpg` for overlays.

    Attributes:
        folder: folder of the result.
        outputs: some of `hrda_core.inference.overlay.OUTPUTS`.
    """

    folder: Path
    outputs: Collection[str]

    def _files(self, name: str) -> list[Path]:
        return [self.folder / output / (name + _SUFFIXES[output]) for output in self.outputs]

    def finished(self, name: str) -> bool:
        """Return whether all files of an image exist."""
        return all(file.is_file() for file in self._files(name))

    def write(self, name: str, masks: Pictures) -> None:
        """Write the files of an image, each whole or not at all."""
        for output, file in zip(self.outputs, self._files(name), strict=True):
            write_whole(file, encoded(masks[output], file.suffix))


@dataclass(frozen=True)
class ServerFiles:
    """The files of one result as a test server wants them: `FOLDER/NAME.png`, without sub-folders.

    Attributes:
        folder: folder of the result.
        server: what the server wants.
        ids: its ids by class id, uint8 (256,).
    """

    folder: Path
    server: Server
    ids: UInt8Array

    def _labels(self, name: str) -> list[Path]:
        return [self.folder / folder / self._file(name) for folder in self.server.folders]

    def _confidence(self, name: str) -> list[Path]:
        return [self.folder / self.server.confidence / self._file(name)] if self.server.confidence else []

    def _file(self, name: str) -> str:
        return self.server.file_name(f"{Path(name).name}.png")

    def finished(self, name: str) -> bool:
        """Return whether all files of an image exist."""
        return all(file.is_file() for file in [*self._labels(name), *self._confidence(name)])

    def write(self, name: str, masks: Pictures) -> None:
        """Write the files of an image, each whole or not at all. A model without confidence gives it black."""
        labels = masks["labels"]
        for file in self._labels(name):
            write_whole(file, encoded(self.ids[labels], ".png"))
        for file in self._confidence(name):
            write_whole(file, encoded(masks.get("confidence", np.zeros_like(labels)), ".png"))


def predict_images(
    paths: Sequence[Path],
    out: Path,
    files: MaskFiles | ServerFiles,
    segment: Segment,
    tally: Tally,
    *,
    resume: bool,
    given: ValueRange | None = None,
    say: Callable[[str], None] = print,
    max_megapixels: int = MAX_MEGAPIXELS,
    area: CameraArea | None = None,
) -> int:
    """Segment image files and all images below folders. Return how many were finished before and are skipped.

    Args:
        paths: images and folders.
        out: place of the results, which are no input even if they lie below one of the folders.
        files: where the masks go.
        segment: makes the outputs of an image.
        tally: is kept up to date.
        resume: skip images whose files exist.
        given: values of 16-bit pixels that become 0 and 255; None = by the values of some of the images.
        say: takes a sentence on such pixels.
        max_megapixels: images of more million pixels are left out, as others that cannot be read.
        area: what of the images counts; None = all. Images of another size are left out.

    Raises:
        DataError: a folder has no image, or the results of two images would have one name.
    """
    named = _named_images(paths, out)
    todo = [(name, path) for name, path in named.items() if not (resume and files.finished(name))]
    tally.total = len(todo)
    values, remark = image_range(list(named.values()), given, max_megapixels)
    if remark:
        say(remark)

    def read(frame: tuple[str, Path]) -> UInt8Array:
        return read_image(frame[1], values, max_megapixels)

    frames = segmented(iter(todo), read, lambda frame: str(frame[1]), segment, tally, lambda frame: area)
    with closing(frames):
        for (name, _), masks in frames:
            if masks is not None:
                files.write(name, masks)
    return len(named) - len(todo)


def _named_images(paths: Sequence[Path], out: Path) -> dict[str, Path]:
    """Name of the result, with sub-folders and without suffix -> image. A suffix that alone tells two apart is kept."""
    out, part = out.absolute(), out.absolute().with_name(out.name + PART_SUFFIX)
    found: list[tuple[Path, Path]] = []
    for path in paths:
        inside = [(image, image.relative_to(path)) for image in ImageFrames.find(path)] if path.is_dir() else []
        for image, relative in inside or [(path, Path(path.name))]:
            if not {out, part} & set(image.absolute().parents):
                found.append((image, relative))
    stems = Counter(relative.with_suffix("") for _, relative in found)
    named: dict[str, Path] = {}
    for image, relative in found:
        name = (relative.with_suffix("") if stems[relative.with_suffix("")] == 1 else relative).as_posix()
        if name in named:
            raise DataError(
                f"the results of '{named[name]}' and '{image}' would have the same name; "
                f"give their common folder, or segment them into two --out"
            )
        named[name] = image
    return named


def predict_videos(
    paths: Sequence[Path],
    files: MaskFiles,
    segment: Segment,
    tally: Tally,
    max_megapixels: int = MAX_MEGAPIXELS,
    area: CameraArea | None = None,
) -> list[str]:
    """Segment videos frame by frame, into `frame_000000` and so on, and `overlay.mp4` if overlays are requested.

    Several videos get a folder each, named like the video. With an `area`, frames of another size are left out. Return
    remarks for the user.

    Raises:
        DataError: a video cannot be opened, has frames of more million pixels than `max_megapixels`, or two have one
            name.
    """
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        raise DataError("two of the videos have the same name; segment them into two --out")
    videos = [_Video(path, f"{path.stem}/" if len(paths) > 1 else "", max_megapixels) for path in paths]
    tally.total = sum(video.stated for video in videos)
    remarks = []
    for video in videos:
        before = tally.frames
        remarks += _predict_video(video, files, segment, tally, area)
        if tally.frames - before < video.stated:
            remarks.append(f"'{video.path}' gave {tally.frames - before} of the {video.stated} frames that it states")
    return remarks


class _Video:
    """A video file that is read once, front to back."""

    def __init__(self, path: Path, prefix: str, max_megapixels: int) -> None:
        capture = open_capture(path, max_megapixels)
        fps, stated = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        capture.release()
        self.path, self.prefix, self._max_megapixels = path, prefix, max_megapixels
        self.fps = fps if math.isfinite(fps) and 0 < fps <= 1000 else _USUAL_FPS
        self.stated = int(stated) if math.isfinite(stated) and stated > 0 else 0

    def frames(self) -> Iterator[tuple[str, UInt8Array]]:
        """Name and BGR image of each frame."""
        capture = open_capture(self.path, self._max_megapixels)
        try:
            index = 0
            while True:
                good, bgr = capture.read()
                if not good:
                    return
                yield f"{self.prefix}frame_{index:06d}", np.asarray(bgr, np.uint8)
                index += 1
        finally:
            capture.release()


def _predict_video(
    video: _Video, files: MaskFiles, segment: Segment, tally: Tally, area: CameraArea | None
) -> list[str]:
    name_of, area_of = lambda frame: f"{video.path}: {frame[0]}", lambda frame: area
    frames = segmented(video.frames(), _to_rgb, name_of, segment, tally, area_of)
    writer: cv2.VideoWriter | None = None
    path = files.folder / f"{video.prefix}overlay.mp4"
    with closing(frames):
        try:
            for (name, _), masks in frames:
                if masks is None:
                    continue
                files.write(name, masks)
                if "overlay" in masks:
                    picture = masks["overlay"]
                    writer = writer or _open_writer(path, video.fps, picture)
                    writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        finally:
            if writer is not None:
                writer.release()
    if writer is not None and not path.is_file():
        return [f"this OpenCV writes no {path.name}; the overlays are pictures only"]
    return []


def _to_rgb(frame: tuple[str, UInt8Array]) -> UInt8Array:
    return np.asarray(cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB), np.uint8)


def _open_writer(path: Path, fps: float, picture: UInt8Array) -> cv2.VideoWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = picture.shape[:2]
    writer = cv2.VideoWriter(opencv_path(path), cv2.VideoWriter.fourcc(*_VIDEO_CODEC), fps, (width, height))
    if not writer.isOpened():
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return writer
