"""Images without labels, for adaptation: a folder, a video or a recording, read by index.

Every kind can be pickled and used from several processes and threads, since files are opened where they are read.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from hrda_core.data.image_files import IMAGE_SUFFIXES, UInt8Array, image_size, read_image
from hrda_core.errors import DataError

__all__ = ["ImageFrames", "PerProcess", "UnlabelledFrames", "evenly_spaced"]


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
        """Find the images below a folder, sorted by path.

        Raises:
            DataError: there is no such folder, or no image in it.
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
