"""Images without labels, for adaptation: a folder, a video or a recording, read by index.

Every kind can be pickled and used from several processes and threads, since files are opened where they are read.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from hrda_core.data.image_files import IMAGE_SUFFIXES, UInt8Array, image_range, image_size, read_image, unread_pictures
from hrda_core.errors import DataError
from hrda_core.messages.picture_size import MAX_MEGAPIXELS
from hrda_core.messages.value_range import FULL_RANGE, ValueRange

__all__ = ["ImageFrames", "JoinedFrames", "PerProcess", "UnlabelledFrames", "evenly_spaced", "find_images"]


class Closable(Protocol):
    """Something that holds an open file."""

    def close(self) -> None: ...


Reader = TypeVar("Reader", bound=Closable)
Value = TypeVar("Value")


def evenly_spaced(values: Sequence[Value], most: int) -> list[Value]:
    """Return at most so many of the items, in their order and evenly spaced, including the first and the last."""
    places = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    return [values[place] for place in places.tolist()]


class UnlabelledFrames(ABC):
    """RGB images by index."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of images, at least 1."""

    @abstractmethod
    def load(self, index: int) -> UInt8Array:
        """Read an RGB image, uint8 (H, W, 3).

        Raises:
            DataError: the image cannot be read; it is named.
        """

    @abstractmethod
    def describe(self) -> str:
        """Return one line for logs and model cards."""

    @abstractmethod
    def sizes(self) -> Iterator[tuple[str, int, int]]:
        """Yield name, height and width of the images, without decoding them where that is possible.

        Videos and recordings yield their first image only, because the others come from the same camera.

        Raises:
            DataError: an image cannot be read; it is named.
        """


@dataclass(frozen=True)
class ImageFrames(UnlabelledFrames):
    """Image files.

    Attributes:
        name: name for logs.
        folder: folder of the images.
        files: paths relative to `folder`.
        left_out: sentence on pictures in the folder that are not read; empty = there are none.
        values: turns pixels of 16 bits into bytes.
        remark: sentence on such pixels; empty = there are none.
        max_megapixels: images of more million pixels are not decoded.
    """

    name: str
    folder: Path
    files: tuple[str, ...]
    left_out: str = ""
    values: ValueRange = FULL_RANGE
    remark: str = ""
    max_megapixels: int = MAX_MEGAPIXELS

    def measured(self, given: ValueRange | None = None) -> ImageFrames:
        """Return the images with the range of their pixels of 16 bits, which is measured where none is given."""
        values, remark = image_range([self.folder / file for file in self.files], given, self.max_megapixels)
        return replace(self, values=values, remark=remark)

    def __len__(self) -> int:
        return len(self.files)

    def load(self, index: int) -> UInt8Array:
        return read_image(self.folder / self.files[index], self.values, self.max_megapixels)

    def describe(self) -> str:
        left_out = f"; left out: {self.left_out}" if self.left_out else ""
        return f"{len(self)} images of {self.name}{left_out}" + (f"; {self.remark}" if self.remark else "")

    def sizes(self) -> Iterator[tuple[str, int, int]]:
        for file in self.files:
            yield file, *image_size(self.folder / file)

    @staticmethod
    def find(folder: Path) -> list[Path]:
        """Find the images below a folder, sorted by path. Files whose name starts with a dot are left out.

        Raises:
            DataError: there is no such folder, or no image in it.
        """
        return find_images(folder)[0]


def find_images(folder: Path) -> tuple[list[Path], str]:
    """Return what `ImageFrames.find` returns, and a sentence on the pictures there that are not read.

    Raises:
        DataError: as `ImageFrames.find`.
    """
    if not folder.is_dir():
        raise DataError(f"data folder '{folder}' does not exist; give a folder of images")
    # macOS puts a `._name.png` beside each file that it copies; such a file is no image.
    named = [path for path in sorted(folder.rglob("*")) if not path.name.startswith(".")]
    found = [path for path in named if path.suffix.lower() in IMAGE_SUFFIXES]
    left_out = unread_pictures(named)
    if not found:
        there = f"; found {left_out}" if left_out else "; give a folder of images"
        raise DataError(f"no images ({', '.join(IMAGE_SUFFIXES)}) below '{folder}'{there}")
    return found, left_out


@dataclass(frozen=True)
class JoinedFrames(UnlabelledFrames):
    """Several sets of images, one behind the other.

    Attributes:
        parts: the sets, each listed as often as its images count.
    """

    parts: tuple[UnlabelledFrames, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def load(self, index: int) -> UInt8Array:
        for part in self.parts:
            if index < len(part):
                return part.load(index)
            index -= len(part)
        raise IndexError("there are fewer images")

    def describe(self) -> str:
        return " + ".join(part.describe() for part in self._different())

    def sizes(self) -> Iterator[tuple[str, int, int]]:
        for part in self._different():
            yield from part.sizes()

    def _different(self) -> list[UnlabelledFrames]:
        return list({id(part): part for part in self.parts}.values())


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
        """Give the reader to one thread. After an error it is opened anew."""
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
