"""The format of a source pack: a small labelled data set in one folder that describes itself.

pack.yaml       format version, origin, licence, label space, and for each image its sizes, class counts and hashes
images/*.jpg    images; labels/*.png have the same names and hold class ids of the label space, 255 = not labelled
train.txt       names of the images to train on, as a recipe takes them (`names`); held_out.txt: those to measure on
README.md       a description for people
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.errors import DataError, TextError, one_line
from hrda_core.plain_files import is_file, open_file
from hrda_core.untrusted_text import Limits, read_yaml_file
from hrda_core.whole_files import file_sha256

__all__ = [
    "FIRST_LINE",
    "FORMAT_VERSION",
    "HELD_OUT",
    "IMAGES",
    "LABELS",
    "MANIFEST",
    "MIN_SHARE",
    "README",
    "TRAIN",
    "ClassTotals",
    "PackImage",
    "check_files",
    "is_pack",
    "read_manifest",
    "shown_from",
]

FORMAT_VERSION = 1
MANIFEST = "pack.yaml"
README = "README.md"
IMAGES, LABELS = "images", "labels"
TRAIN, HELD_OUT = "train", "held_out"
"""The two parts; each has a list of that name with the suffix .txt."""

FIRST_LINE = "# hrda_ros source pack"

MIN_SHARE = 3000 / (1914 * 1052)
"""An image shows a class with more than this share of its pixels: what the 3000 pixels of Rare Class Sampling (paper
section 3.3) are in an image of GTA5, for images of any size."""


def shown_from(areas: Sequence[int] | npt.NDArray[np.int64]) -> int:
    """Return the number of pixels above which images of these areas (pixels) show a class: of the median area."""
    return round(MIN_SHARE * float(np.median(areas)))


@dataclass(frozen=True)
class PackImage:
    """One image of a pack.

    Attributes:
        name: name of both files, without folder and suffix.
        part: `"train"` or `"held_out"`.
        size: height and width in the pack.
        native_size: height and width before it was shrunk.
        pixels: number of pixels of each class, in the pack.
        ignored: number of pixels without a class.
        image_bytes, label_bytes: file sizes.
        image_sha256, label_sha256: hashes of the files.
    """

    name: str
    part: str
    size: tuple[int, int]
    native_size: tuple[int, int]
    pixels: tuple[int, ...]
    ignored: int
    image_bytes: int
    label_bytes: int
    image_sha256: str
    label_sha256: str

    def files(self) -> tuple[tuple[str, int, str], ...]:
        """Return path inside the pack, size in bytes and sha256 of the image and of its labels."""
        return (
            (f"{IMAGES}/{self.name}.jpg", self.image_bytes, self.image_sha256),
            (f"{LABELS}/{self.name}.png", self.label_bytes, self.label_sha256),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for YAML and JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], num_classes: int) -> PackImage:
        """Read what `to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: a key is missing or its value makes no sense.
        """
        image = cls(
            name=str(values["name"]),
            part=str(values["part"]),
            size=_pair(values["size"]),
            native_size=_pair(values["native_size"]),
            pixels=tuple(int(count) for count in values["pixels"]),
            ignored=int(values["ignored"]),
            image_bytes=int(values["image_bytes"]),
            label_bytes=int(values["label_bytes"]),
            image_sha256=str(values["image_sha256"]),
            label_sha256=str(values["label_sha256"]),
        )
        if Path(image.name).name != image.name or image.part not in (TRAIN, HELD_OUT):
            raise ValueError(f"image '{image.name}' of part '{image.part}'")
        if len(image.pixels) != num_classes:
            raise ValueError(f"image '{image.name}' counts {len(image.pixels)} classes instead of {num_classes}")
        return image


@dataclass(frozen=True, eq=False)
class ClassTotals:
    """Sums over a set of label maps.

    Attributes:
        images: number of maps.
        pixels: int64 (C,), pixels of each class.
        showing: int64 (C,), number of maps that show the class.
        ignored: number of pixels without a class.
    """

    images: int
    pixels: npt.NDArray[np.int64]
    showing: npt.NDArray[np.int64]
    ignored: int

    @classmethod
    def of(cls, counts: npt.NDArray[np.int64], ignored: npt.NDArray[np.int64]) -> ClassTotals:
        """Sum up int64 (N, C) pixels by map and class, and int64 (N,) ignored pixels."""
        return cls(len(counts), counts.sum(axis=0), np.count_nonzero(counts, axis=0), int(ignored.sum()))

    def __add__(self, other: ClassTotals) -> ClassTotals:
        return ClassTotals(
            self.images + other.images,
            self.pixels + other.pixels,
            self.showing + other.showing,
            self.ignored + other.ignored,
        )

    @property
    def ignored_share(self) -> float:
        """Share of all pixels that have no class."""
        return self.ignored / max(int(self.pixels.sum()) + self.ignored, 1)

    def shares(self) -> npt.NDArray[np.float64]:
        """Return the share of each class in all pixels, ignored ones included: float64 (C,)."""
        return np.asarray(self.pixels / max(int(self.pixels.sum()) + self.ignored, 1), np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for YAML and JSON."""
        return {
            "images": self.images,
            "pixels": [int(count) for count in self.pixels],
            "showing": [int(count) for count in self.showing],
            "ignored": self.ignored,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassTotals:
        """Read what `to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: a key is missing or its value makes no sense.
        """
        pixels, showing = (np.array(values[key], np.int64) for key in ("pixels", "showing"))
        if pixels.shape != showing.shape or pixels.ndim != 1:
            raise ValueError("totals of different length")
        return cls(int(values["images"]), pixels, showing, int(values["ignored"]))


def is_pack(path: Path) -> bool:
    """Return whether a folder is a source pack, by the first line of its `pack.yaml`.

    `SourcePack.open` checks the rest.
    """
    try:
        with open_file(path / MANIFEST) as file:
            return file.readline(len(FIRST_LINE) + 2).strip() == FIRST_LINE.encode()
    except OSError:
        return False


_LIMITS = Limits(bytes=32 << 20, nodes=2_000_000)
"""A pack of 25,000 images."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the `pack.yaml` of a pack of this format version, without checking its values.

    Raises:
        DataError: the folder or file is missing, is not YAML, or has another version.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise DataError(f"source pack '{folder}' is not a folder; make one with 'hrda pack-source'")
    try:
        manifest = read_yaml_file(path, _LIMITS)
    except FileNotFoundError:
        raise DataError(
            f"'{folder}' has no {MANIFEST}, so it is no source pack; make one with 'hrda pack-source'"
        ) from None
    except (OSError, TextError) as error:
        raise DataError(f"'{path}' cannot be read ({one_line(error)}); copy the pack again") from error
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise DataError(
            f"'{path}' has format version {version!r}, this release reads {FORMAT_VERSION}; make the pack again"
        )
    return dict(manifest)


def check_files(folder: Path, image: PackImage) -> None:
    """Compare the files of an image with their sizes and hashes.

    Raises:
        DataError: a file is missing or differs; it is named.
    """
    for name, size, digest in image.files():
        path = folder / name
        found = path.stat().st_size if is_file(path) else None
        if found is None:
            raise DataError(f"'{path}' is missing from its source pack; copy the pack again, whole")
        if found != size or file_sha256(path) != digest:
            raise DataError(f"'{path}' is not the file that {MANIFEST} describes (it was changed); copy the pack again")


def _pair(values: Any) -> tuple[int, int]:
    height, width = (int(value) for value in values)
    return height, width
