"""Labelled images: pairs of an image and a label file, of a public data set as downloaded or of any two folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from hrda_core.data.datasets.layouts import FOLDERS, find_layout, find_split
from hrda_core.data.datasets.name_lists import select_names
from hrda_core.data.frames import ImageFrames, UnlabelledFrames
from hrda_core.data.image_files import LabelReader, UInt8Array, read_image, read_labels
from hrda_core.errors import DataError
from hrda_core.labels import IdTable, read_label_space

__all__ = ["ImageLabelPairs", "open_labelled", "open_unlabelled_layout", "pair_folders"]

LabelledPath = tuple[Path, Path]


@dataclass(frozen=True)
class ImageLabelPairs:
    """Paths of images and of their label maps, and how the latter are read.

    Attributes:
        name: name for logs and model cards.
        images, labels: paths of equal number.
        ids: native ids of the label files -> class ids; None = class ids as stored.
        reader: function that reads a label file.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    ids: IdTable | None = field(default=None, compare=False, repr=False)
    reader: LabelReader = field(default=read_labels, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    def load(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        """Read an RGB image, uint8 (H, W, 3), and its class ids, uint8 (H, W).

        Raises:
            DataError: a file cannot be read, or the two sizes differ.
        """
        image, labels = read_image(self.images[index]), self.reader(self.labels[index])
        if image.shape[:2] != labels.shape:
            raise DataError(
                f"image '{self.images[index]}' is {image.shape[:2]} pixels but its labels '{self.labels[index]}' are "
                f"{labels.shape}; both must have the same size"
            )
        return image, labels if self.ids is None else self.ids.table[labels]


def open_labelled(
    layout: str,
    root: Path | None,
    split: str,
    *,
    label_space: Path | None = None,
    images: Path | None = None,
    labels: Path | None = None,
    names: Sequence[str] | None = None,
) -> ImageLabelPairs:
    """Find the labelled images of a data set.

    Args:
        layout: a row of `hrda_core.data.datasets.layouts.LAYOUTS`, or `"folders"`.
        root: folder of the data set as downloaded. With `"folders"`: the folder of `images/` and `labels/`.
        split: such as `"train"`. With `"folders"`: sub-folder of both, `""` = all; not used where `images` is given.
        label_space: label space file; its `ids` replace the layout's table.
        images, labels: with `"folders"`: the two folders, instead of `root`.
        names: keep only these images, in this order. With or without suffix, folders and "SPLIT/"; or the short name
            (`aachen_000000_000019` of Cityscapes).

    Raises:
        DataError: a layout or split is unknown (the nearest name is proposed), a folder is missing or empty, an image
            has no labels, or a name fits no image or several.
        LabelSpaceError: the label space file is bad.
    """
    ids = None if label_space is None else read_label_space(label_space)[1]
    if layout == FOLDERS:
        image_folder, label_folder = _two_folders(root, split, images, labels)
        columns = _columns(_pair_folders(image_folder, label_folder, names, split))
        return ImageLabelPairs(str(image_folder), *columns, ids)
    row = find_layout(layout)
    if root is None or images is not None or labels is not None:
        raise DataError(f"layout '{layout}' takes its root folder alone; images and labels go with layout '{FOLDERS}'")
    find_split(row, split, row.labelled)
    found = select_names(row.find_images(root, split), names, split, row.short_name, root)
    pairs = [(path, row.label_path(root, relative)) for relative, path in found]
    _check_labels_exist(pairs)
    return ImageLabelPairs(f"{layout} {split}", *_columns(pairs), row.ids if label_space is None else ids, row.reader)


def open_unlabelled_layout(
    layout: str, root: Path, split: str, *, names: Sequence[str] | None = None
) -> UnlabelledFrames:
    """Find the images of a data set as downloaded; its labels may be absent and are not opened.

    The arguments are those of `open_labelled`.

    Raises:
        DataError: a layout or split is unknown, a folder is missing or empty, or a name fits no image or several.
    """
    if layout == FOLDERS:
        folder = _sub_folder(root / "images", split)
        found = select_names(_images_below(folder), names, split, _stem, folder)
    else:
        row, folder = find_layout(layout), root
        found = select_names(row.find_images(root, split), names, split, row.short_name, root)
    return ImageFrames(f"{layout} {split}".strip(), folder, tuple(relative for relative, _ in found))


def pair_folders(images: Path, labels: Path, *, names: Sequence[str] | None = None) -> ImageLabelPairs:
    """Match the images below one folder with the PNGs of the same relative name below another.

    Args:
        images, labels: folders, searched recursively. The labels hold class ids.
        names: keep only these, relative to `images`; see `open_labelled`.

    Raises:
        DataError: a folder is missing or empty, an image has no labels, or a listed name has no image.
    """
    return ImageLabelPairs(str(images), *_columns(_pair_folders(images, labels, names, "")))


def _two_folders(root: Path | None, split: str, images: Path | None, labels: Path | None) -> tuple[Path, Path]:
    if images is not None and labels is not None:
        return images, labels
    if root is None or images is not None or labels is not None:
        raise DataError(f"layout '{FOLDERS}' needs either both images and labels, or root with both in it")
    return _sub_folder(root / "images", split), _sub_folder(root / "labels", split)


def _sub_folder(folder: Path, split: str) -> Path:
    if folder.is_dir() and not (folder / split).is_dir():
        there = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir())) or "no folders"
        raise DataError(f"'{folder}' has no folder '{split}' (found {there}); give one of them, or split '' for all")
    return folder / split


def _pair_folders(images: Path, labels: Path, names: Sequence[str] | None, split: str) -> list[LabelledPath]:
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(f"data folder '{folder}' does not exist; give folders of images and of label PNGs")
    found = select_names(_images_below(images), names, split, _stem, images)
    pairs = [(path, labels / PurePosixPath(relative).with_suffix(".png")) for relative, path in found]
    _check_labels_exist(pairs)
    return pairs


def _images_below(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in ImageFrames.find(folder)}


def _stem(relative: str) -> str:
    return PurePosixPath(relative).stem


def _check_labels_exist(pairs: Sequence[LabelledPath]) -> None:
    missing = [label for _, label in pairs if not label.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of {len(pairs)} images have no label file, first missing: '{missing[0]}'")


def _columns(pairs: Sequence[LabelledPath]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    return tuple(image for image, _ in pairs), tuple(label for _, label in pairs)
