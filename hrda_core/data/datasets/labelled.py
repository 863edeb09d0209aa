"""Labelled images: pairs of an image and a label file, of a public data set as downloaded or of any two folders."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from hrda_core.data.datasets.folder_files import FolderFiles, find_images, find_pairs
from hrda_core.data.datasets.layouts import FOLDERS, find_layout, find_split
from hrda_core.data.datasets.name_lists import select_names
from hrda_core.data.frames import ImageFrames, UnlabelledFrames
from hrda_core.data.image_files import LabelReader, UInt8Array, image_range, read_image, read_labels
from hrda_core.data.label_colors import ColorReader
from hrda_core.errors import DataError
from hrda_core.label_files import read_label_space
from hrda_core.labels import CITYSCAPES19, IdTable, LabelSpace
from hrda_core.messages.picture_size import MAX_MEGAPIXELS
from hrda_core.messages.value_range import FULL_RANGE, ValueRange

__all__ = ["ImageLabelPairs", "OnBad", "declared_space", "open_labelled", "open_unlabelled_layout", "pair_folders"]

OnBad = Literal["stop", "skip"]
"""What becomes of a pair that cannot be used: it is an error, or it is left out and counted."""

LabelledPath = tuple[Path, Path]


@dataclass(frozen=True)
class ImageLabelPairs:
    """Paths of images and of their label maps, and how the latter are read.

    Attributes:
        name: name for logs and model cards.
        images, labels: paths of equal number.
        ids: native ids of the label files -> class ids; None = class ids as stored.
        reader: function that reads a label file.
        known_unequal: images whose labels have another size as published; such pairs are left out.
        left_out: sentence on pictures among the images that are not read; empty = there are none.
        values: turns pixels of 16 bits into bytes.
        remark: sentence on such pixels; empty = there are none.
        max_megapixels: images and label maps of more million pixels are not decoded.
    """

    name: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    ids: IdTable | None = field(default=None, compare=False, repr=False)
    reader: LabelReader = field(default=read_labels, repr=False)
    known_unequal: frozenset[Path] = field(default=frozenset(), compare=False, repr=False)
    left_out: str = field(default="", compare=False, repr=False)
    values: ValueRange = field(default=FULL_RANGE, compare=False, repr=False)
    remark: str = field(default="", compare=False, repr=False)
    max_megapixels: int = field(default=MAX_MEGAPIXELS, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images relative to the folder that holds them all, as lists of names take them."""
        folder = Path(os.path.commonpath([image.parent for image in self.images])) if self.images else Path()
        return tuple(image.relative_to(folder).as_posix() for image in self.images)

    def take(self, rows: Sequence[int]) -> ImageLabelPairs:
        """Return some of the pairs, in the order of `rows`."""
        images, labels = (tuple(paths[row] for row in rows) for paths in (self.images, self.labels))
        return replace(self, images=images, labels=labels)

    def measured(self, given: ValueRange | None = None) -> ImageLabelPairs:
        """Return the pairs with the range of their pixels of 16 bits, which is measured where none is given."""
        values, remark = image_range(self.images, given, self.max_megapixels)
        return replace(self, values=values, remark=remark)

    def load(self, index: int) -> tuple[UInt8Array, UInt8Array]:
        """Read an RGB image, uint8 (H, W, 3), and its class ids, uint8 (H, W).

        Raises:
            DataError: a file cannot be read, or the two sizes differ.
        """
        image = read_image(self.images[index], self.values, self.max_megapixels)
        labels = self.reader(self.labels[index], self.max_megapixels)
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
    label_space: Path | Mapping[str, Any] | None = None,
    space: LabelSpace = CITYSCAPES19,
    images: Path | None = None,
    labels: Path | None = None,
    names: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    on_bad: OnBad = "stop",
    files: FolderFiles = FolderFiles(),  # noqa: B008 - it is frozen
    value_range: ValueRange | None = None,
    max_megapixels: int = MAX_MEGAPIXELS,
) -> ImageLabelPairs:
    """Find the labelled images of a data set.

    Args:
        layout: a row of `hrda_core.data.datasets.layouts.LAYOUTS`, or `"folders"`.
        root: folder of the data set as downloaded. With `"folders"`: the folder of `images/` and `labels/`.
        split: such as `"train"`. With `"folders"`: sub-folder of both, `""` = all; not used where `images` is given.
        label_space: label space file, or its keys and values; its `ids` replace the layout's table.
        space: classes to which a label space file of ids alone leads.
        images, labels: with `"folders"`: the two folders, instead of `root`.
        names: keep only these images, in this order. With or without suffix, folders and "SPLIT/"; or the short name
            (`aachen_000000_000019` of Cityscapes).
        exclude: leave out these images; names as in `names`.
        on_bad: `"stop"` = an image without a label file is an error here, `"skip"` = it is left to
            `hrda_core.data.datasets.checked_labels`.
        files: with `"folders"`: how the files are named and read. Colours of masks are those of the label space file,
            else of `space`.
        value_range: values of 16-bit pixels of the images that become 0 and 255; None = by the values of some images.
        max_megapixels: images and label maps whose header states more million pixels cannot be read.

    Raises:
        DataError: a layout or split is unknown (the nearest name is proposed), a folder is missing or empty, an image
            has no labels, or a name fits no image or several.
        LabelSpaceError: the label space file is bad.
    """
    ids = None if label_space is None else read_label_space(label_space, space)[1]
    if layout == FOLDERS:
        image_folder, label_folder = _two_folders(root, split, images, labels)
        found_pairs, left_out = find_pairs(image_folder, label_folder, split, files, names=names, exclude=exclude)
        _check_labels_exist(found_pairs, on_bad)
        columns = _columns(found_pairs)
        if files.label_colors:
            reader = ColorReader(declared_space(layout, label_space, space))
            pairs = ImageLabelPairs(str(image_folder), *columns, reader=reader, left_out=left_out)
        else:
            pairs = ImageLabelPairs(str(image_folder), *columns, ids, left_out=left_out)
        return replace(pairs, max_megapixels=max_megapixels).measured(value_range)
    if files != FolderFiles():
        raise DataError(
            f"image_suffix, label_suffix and label_colors go with layout '{FOLDERS}'; '{layout}' knows its own files"
        )
    row = find_layout(layout)
    if root is None and images is None and labels is None:
        raise DataError(f"layout '{layout}' needs root, the folder of the data set as downloaded")
    if root is None or images is not None or labels is not None:
        raise DataError(f"layout '{layout}' takes its root folder alone; images and labels go with layout '{FOLDERS}'")
    find_split(row, split, row.labelled)
    found = select_names(row.find_images(root, split), names, split, row.short_name, root, exclude)
    both = [(path, row.label_path(root, relative)) for relative, path in found]
    _check_labels_exist(both, on_bad)
    unequal = frozenset(path for relative, path in found if row.short_name(relative) in row.known_unequal)
    pairs = ImageLabelPairs(
        f"{layout} {split}", *_columns(both), row.ids if label_space is None else ids, row.reader, unequal
    )
    return replace(pairs, max_megapixels=max_megapixels).measured(value_range)


def declared_space(layout: str, label_space: Path | Mapping[str, Any] | None, given: LabelSpace) -> LabelSpace:
    """Return the classes of label files: those of their label space file, else of a public data set's layout.

    Folders without a label space file declare none: they hold class ids of `given`.

    Raises:
        LabelSpaceError: the label space file is bad.
    """
    if label_space is not None:
        return read_label_space(label_space, given)[0]
    return given if layout in ("", FOLDERS) else CITYSCAPES19


def open_unlabelled_layout(
    layout: str,
    root: Path,
    split: str,
    *,
    names: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    value_range: ValueRange | None = None,
    max_megapixels: int = MAX_MEGAPIXELS,
) -> UnlabelledFrames:
    """Find the images of a data set as downloaded; its labels may be absent and are not opened.

    The arguments are those of `open_labelled`.

    Raises:
        DataError: a layout or split is unknown, a folder is missing or empty, or a name fits no image or several.
    """
    if layout == FOLDERS:
        folder = _sub_folder(root / "images", split)
        images, left_out = find_images(folder, FolderFiles())
        found = select_names(images, names, split, FolderFiles().stem, folder, exclude)
    else:
        row, folder, left_out = find_layout(layout), root, ""
        found = select_names(row.find_images(root, split), names, split, row.short_name, root, exclude)
    files = tuple(relative for relative, _ in found)
    frames = ImageFrames(f"{layout} {split}".strip(), folder, files, left_out, max_megapixels=max_megapixels)
    return frames.measured(value_range)


def pair_folders(
    images: Path,
    labels: Path,
    *,
    names: Sequence[str] | None = None,
    on_bad: OnBad = "stop",
    max_megapixels: int = MAX_MEGAPIXELS,
) -> ImageLabelPairs:
    """Match the images below one folder with the PNGs of the same relative name below another.

    Args:
        images, labels: folders, searched recursively. The labels hold class ids.
        names: keep only these, relative to `images`; see `open_labelled`.
        on_bad, max_megapixels: see `open_labelled`.

    Raises:
        DataError: a folder is missing or empty, an image has no labels, or a listed name has no image.
    """
    return open_labelled(
        FOLDERS,
        None,
        "",
        images=images,
        labels=labels,
        names=names,
        on_bad=on_bad,
        max_megapixels=max_megapixels,
    )


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


def _check_labels_exist(pairs: Sequence[LabelledPath], on_bad: OnBad) -> None:
    missing = [] if on_bad == "skip" else [label for _, label in pairs if not label.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(pairs)} images have no label file, first missing: '{missing[0]}'; give the folder "
            f"of the labels, or leave such images out with on_bad: skip"
        )


def _columns(pairs: Sequence[LabelledPath]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    return tuple(image for image, _ in pairs), tuple(label for _, label in pairs)
