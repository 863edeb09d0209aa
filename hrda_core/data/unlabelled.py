"""Images without labels, for adaptation: a folder, a video or a recording, read by index.

Every kind is picklable and may be used from several processes and threads: files are opened where they are read.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Generic, Protocol, TypeVar

from hrda_core.data.image_files import IMAGE_SUFFIXES, UInt8Array, image_size, read_image
from hrda_core.data.selection import select_names
from hrda_core.errors import DataError

__all__ = ["BAG_SUFFIXES", "VIDEO_SUFFIXES", "ImageFrames", "PerProcess", "UnlabelledFrames", "open_unlabelled"]

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv")
BAG_SUFFIXES = (".bag", ".bag.active", ".db3", ".db3.zstd", ".mcap", ".mcap.zstd")


class Closable(Protocol):
    """What holds an open file."""

    def close(self) -> None: ...


Reader = TypeVar("Reader", bound=Closable)


class UnlabelledFrames(ABC):
    """RGB images by index."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images, at least 1."""

    @abstractmethod
    def load(self, index: int) -> UInt8Array:
        """RGB image uint8 (H, W, 3).

        Raises:
            DataError: the image cannot be read; it is named.
        """

    @abstractmethod
    def describe(self) -> str:
        """One line for logs and model cards."""

    @abstractmethod
    def sizes(self) -> Iterator[tuple[str, int, int]]:
        """Name, height and width of the images, without decoding them where that is possible.

        Videos and recordings tell their first image only: the others come from the same camera.

        Raises:
            DataError: an image cannot be read; it is named.
        """


@dataclass(frozen=True)
class ImageFrames(UnlabelledFrames):
    """Image files.

    Attributes:
        name: for logs.
        folder: where they are.
        files: paths relative to `folder`.
    """

    name: str
    folder: Path
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def load(self, index: int) -> UInt8Array:
        return read_image(self.folder / self.files[index])

    def describe(self) -> str:
        return f"{len(self)} images of {self.name}"

    def sizes(self) -> Iterator[tuple[str, int, int]]:
        for file in self.files:
            yield file, *image_size(self.folder / file)

    @staticmethod
    def find(folder: Path) -> list[Path]:
        """Images below a folder, sorted by path.

        Raises:
            DataError: no such folder, or no image in it.
        """
        if not folder.is_dir():
            raise DataError(f"data folder '{folder}' does not exist; give a folder of images")
        found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
        if not found:
            raise DataError(f"no images ({', '.join(IMAGE_SUFFIXES)}) below '{folder}'; give a folder of images")
        return found


class PerProcess(Generic[Reader]):
    """An open reader that each process opens for itself at first use, and that one thread uses at a time.

    A file handle that a forked or pickled copy shared would have one position for all.
    """

    def __init__(self, open_reader: Callable[[], Reader]) -> None:
        self._open_reader = open_reader
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._reader: Reader | None = None

    @contextmanager
    def use(self) -> Iterator[Reader]:
        """The reader, for one thread. After an error inside it is opened anew."""
        if self._process != os.getpid():
            self.__init__(self._open_reader)  # type: ignore[misc]
        with self._lock:
            if self._reader is None:
                self._reader = self._open_reader()
            try:
                yield self._reader
            except BaseException:
                self._close()
                raise

    def _close(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            with suppress(Exception):  # it may be what just failed
                reader.close()

    def __del__(self) -> None:
        if self._process == os.getpid():
            self._close()

    def __getstate__(self) -> dict[str, Any]:
        return {"_open_reader": self._open_reader}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_open_reader"])  # type: ignore[misc]


def open_unlabelled(path: Path, *, topic: str = "", names: Sequence[str] | None = None) -> UnlabelledFrames:
    """Images of a folder (searched recursively), a video file, or a recording (rosbag2 folder, .mcap, .db3, .bag).

    Args:
        path: where they are.
        topic: image topic of a recording; empty = its only one.
        names: keep only these images of a folder, in this order; see `hrda_core.data.datasets.open_labelled`.

    Raises:
        DataError: nothing readable there, an option that does not fit, or no image.
        MissingPackageError: recordings need the package rosbags.
    """
    kind = _kind(path)
    if names is not None and kind != "folder":
        raise DataError(f"'{path}' is a {kind}; a list of names selects images of a folder only")
    if topic and kind != "recording":
        raise DataError(f"'{path}' is a {kind}; a topic ('{topic}') selects images of a recording only")
    if kind == "recording":
        from hrda_core.data.bag_frames import open_bag

        return open_bag(path, topic)
    if kind == "video":
        from hrda_core.data.video_frames import open_video

        return open_video(path)
    found = {image.relative_to(path).as_posix(): image for image in ImageFrames.find(path)}
    chosen = select_names(found, names, "", lambda relative: PurePosixPath(relative).stem, path)
    return ImageFrames(f"'{path}'", path, tuple(relative for relative, _ in chosen))


def _kind(path: Path) -> str:
    if path.is_dir():
        return "recording" if _is_bag_folder(path.iterdir()) else "folder"
    if not path.exists():
        raise DataError(f"'{path}' does not exist; give a folder of images, a video file, or a recording")
    name = path.name.lower()
    if name.endswith(BAG_SUFFIXES):
        return "recording"
    if name.endswith(VIDEO_SUFFIXES):
        return "video"
    raise DataError(
        f"'{path}' is no source of images by its name; expected a folder of images, a video "
        f"({' '.join(VIDEO_SUFFIXES)}) or a recording (rosbag2 folder, {' '.join(BAG_SUFFIXES)})"
    )


def _is_bag_folder(entries: Iterable[Path]) -> bool:
    return any(entry.name == "metadata.yaml" or entry.name.lower().endswith(BAG_SUFFIXES) for entry in entries)
