"""The frames of a drive that two models are compared on, drawn such that every frame has the same chance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrda_core.data.frames import ImageFrames, UnlabelledFrames
from hrda_core.data.image_files import IMAGE_SUFFIXES, UInt8Array
from hrda_core.data.open_frames import open_unlabelled

__all__ = ["Drive", "open_drive"]


@dataclass(frozen=True)
class Drive:
    """The frames of one or several recordings, videos or folders, one after the other.

    Attributes:
        parts: frames of each.
        names: name of each, for people.
        identity: hash of the names and sizes of their files, and of what of them is looked at.
    """

    parts: tuple[UnlabelledFrames, ...]
    names: tuple[str, ...]
    identity: str

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def load(self, number: int) -> UInt8Array:
        """Read a frame by its number in the drive, RGB, uint8 (H, W, 3).

        Raises:
            DataError: it cannot be read.
        """
        part, index = self._place(number)
        return self.parts[part].load(index)

    def name(self, number: int) -> str:
        """Return the name of a frame, for people."""
        part, index = self._place(number)
        frames = self.parts[part]
        return frames.files[index] if isinstance(frames, ImageFrames) else f"{self.names[part]}, image {index}"

    def sample(self, most: int, seed: int) -> list[int]:
        """Return at most so many frame numbers, evenly spaced from a random start: every frame has the same chance."""
        count = len(self)
        if count <= most:
            return list(range(count))
        start = np.random.default_rng(seed).random()
        return [int((start + place) * count / most) for place in range(most)]

    def _place(self, number: int) -> tuple[int, int]:
        for part, frames in enumerate(self.parts):
            if number < len(frames):
                return part, number
            number -= len(frames)
        raise IndexError(number)


def open_drive(paths: Sequence[Path], topic: str = "") -> Drive:
    """Open recordings, videos, folders of images or images as one drive.

    Args:
        paths: what to open.
        topic: image topic of the recordings; empty = their only one.

    Raises:
        DataError: one of them cannot be read, or holds no image.
        MissingPackageError: one is a recording, and the package rosbags is not installed.
    """
    parts = tuple(_open(path, topic) for path in paths)
    digest = hashlib.sha256(topic.encode())
    for path, part in zip(paths, parts, strict=True):
        for file, size in _files(path):
            digest.update(f"\n{file} {size}".encode())
        digest.update(f"\n{len(part)}".encode())
    return Drive(parts, tuple(path.name or str(path) for path in paths), digest.hexdigest())


def _open(path: Path, topic: str) -> UnlabelledFrames:
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageFrames(f"'{path}'", path.parent, (path.name,)).measured()
    return open_unlabelled(path, topic=topic)


def _files(path: Path) -> Iterator[tuple[str, int]]:
    """Names and sizes: a drive may be moved, and hashing all of one would take minutes."""
    found = [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path]
    for file in found:
        yield file.relative_to(path.parent).as_posix(), file.stat().st_size
