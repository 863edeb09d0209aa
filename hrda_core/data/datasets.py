"""Labelled image folders: `images/SPLIT/NAME.jpg|png` beside `labels/SPLIT/NAME.png` with train ids as pixel values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import DataError, require
from hrda_core.labels import IGNORE_LABEL

__all__ = ["IMAGE_SUFFIXES", "ImageLabelPairs", "count_classes", "pair_folders", "read_image", "read_labels"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ImageLabelPairs:
    """Paths of images and of their label maps, sorted by name.

    Attributes:
        name: for logs and model cards.
        images, labels: paths of equal number.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        """RGB image uint8 (H, W, 3) and label ids uint8 (H, W).

        Raises:
            DataError: a file cannot be read, or the two sizes differ.
        """
        image, labels = read_image(self.images[index]), read_labels(self.labels[index])
        if image.shape[:2] != labels.shape:
            raise DataError(
                f"image '{self.images[index]}' is {image.shape[:2]} pixels but its labels are {labels.shape}; "
                f"both must have the same size"
            )
        return image, labels


def pair_folders(images: Path, labels: Path, *, names: Sequence[str] | None = None) -> ImageLabelPairs:
    """Match the images below one folder with the PNGs of the same relative name below another.

    Args:
        images, labels: folders, searched recursively.
        names: keep only these, relative to `images`, without suffix.

    Raises:
        DataError: a folder is missing or empty, an image has no labels, or a listed name has no image.
    """
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(f"data folder '{folder}' does not exist; give folders of images and of label PNGs")
    found = {
        path.relative_to(images).with_suffix("").as_posix(): path
        for path in sorted(images.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
    }
    if not found:
        raise DataError(f"no images ({', '.join(IMAGE_SUFFIXES)}) below '{images}'")
    wanted = list(found) if names is None else list(names)
    absent = [name for name in wanted if name not in found]
    if absent:
        raise DataError(f"{len(absent)} listed images are not below '{images}', first '{absent[0]}'")
    label_paths = [labels / f"{name}.png" for name in wanted]
    missing = [path for path in label_paths if not path.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(wanted)} images have no label file, first missing: '{missing[0]}'")
    return ImageLabelPairs(str(images), tuple(found[name] for name in wanted), tuple(label_paths))


def read_image(path: Path) -> UInt8Array:
    """RGB image, uint8 (H, W, 3).

    Raises:
        DataError: not a readable image.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DataError(f"'{path}' cannot be read as an image; remove it or copy it again")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def read_labels(path: Path) -> UInt8Array:
    """Label ids as stored, uint8 (H, W); a palette PNG gives its indices, not its colours.

    Raises:
        DataError: not a readable 8-bit one-channel PNG.
    """
    # Pillow, not OpenCV: OpenCV expands a palette to colours and loses the indices.
    image = require("PIL.Image", "train")
    try:
        with image.open(path) as file:
            if file.mode in ("P", "L"):
                return np.array(file, np.uint8)
            found = f"mode {file.mode}"
    except OSError as error:  # also Pillow's UnidentifiedImageError
        found = str(error)
    raise DataError(f"'{path}' is not a label map ({found}); expected an 8-bit PNG of one channel or palette")


def count_classes(pairs: ImageLabelPairs, num_classes: int) -> npt.NDArray[np.int64]:
    """Pixels of each class in each label map: int64 (N, num_classes); ids outside 0..num_classes-1 must be 255.

    Raises:
        DataError: an id that is neither a class nor `IGNORE_LABEL`; the file is named.
    """
    counts = np.zeros((len(pairs), num_classes), np.int64)
    for row, path in enumerate(pairs.labels):
        histogram = np.bincount(read_labels(path).reshape(-1), minlength=256)
        outside = [int(label) for label in np.flatnonzero(histogram[:IGNORE_LABEL]) if label >= num_classes]
        if outside:
            raise DataError(f"'{path}' holds ids {outside[:5]}; expected 0..{num_classes - 1} or {IGNORE_LABEL}")
        counts[row] = histogram[:num_classes]
    return counts
