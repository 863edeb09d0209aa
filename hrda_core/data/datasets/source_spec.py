"""Opens a labelled data set that a command line names: `gta5:/data/gta5`, or a folder of `images/` and `labels/`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hrda_core.data.datasets.folder_files import FolderFiles
from hrda_core.data.datasets.labelled import ImageLabelPairs, OnBad, declared_space, open_labelled
from hrda_core.data.datasets.layouts import FOLDERS, LAYOUTS, find_layout, layout_names
from hrda_core.data.datasets.name_lists import select_names
from hrda_core.errors import DataError
from hrda_core.labels import CITYSCAPES19, LabelSpace
from hrda_core.messages.picture_size import MAX_MEGAPIXELS

__all__ = ["LabelledSource", "open_source"]


@dataclass(frozen=True)
class LabelledSource:
    """Labelled images, and the facts about them that a model card states.

    Attributes:
        pairs: the images.
        name: name for logs and model cards.
        licence: licence of the data; `"unknown"` if none was given.
        space: classes of the labels.
        origin: what was opened, as the user wrote it.
    """

    pairs: ImageLabelPairs
    name: str
    licence: str
    space: LabelSpace
    origin: str

    def rows(self, names: Sequence[str]) -> list[int]:
        """Return the places of the named images among `pairs`, in the order of `names`.

        Args:
            names: as lists of names are written, see `hrda_core.data.datasets.name_lists`.

        Raises:
            DataError: a name fits no image or several.
        """
        images = self.pairs.images
        folder = Path(os.path.commonpath([image.parent for image in images]))
        place = {image: row for row, image in enumerate(images)}
        found = dict(zip(self.pairs.names, images, strict=True))
        return [place[image] for _, image in select_names(found, names, "", lambda name: Path(name).stem, folder)]


def open_source(
    spec: str,
    *,
    split: str | None = None,
    images: Path | None = None,
    labels: Path | None = None,
    label_space: Path | None = None,
    space: LabelSpace = CITYSCAPES19,
    names: Sequence[str] | None = None,
    on_bad: OnBad = "stop",
    files: FolderFiles = FolderFiles(),  # noqa: B008 - it is frozen
    name: str = "",
    licence: str = "",
    max_megapixels: int = MAX_MEGAPIXELS,
) -> LabelledSource:
    """Open the data set that a command line names.

    Args:
        spec: `LAYOUT:ROOT`, or a folder of `images/` and `labels/`; empty where `images` and `labels` are given.
        split: split of the data set; None = `train` of a layout, everything of a folder.
        images, labels: two folders anywhere.
        label_space: label space file; None = a layout's own classes, or `space` for folders.
        space: classes of the model, to which a file of ids alone leads.
        names: keep only these images.
        on_bad, files, max_megapixels: see `open_labelled`.
        name, licence: empty = those of the layout, or the folder's name and `"unknown"`.

    Raises:
        DataError: the text names nothing that is there, or see `open_labelled`.
        LabelSpaceError: the label space file is bad.
    """
    layout, root = (FOLDERS, None) if not spec and images and labels else _split_spec(spec)
    if split is None:
        split = "" if layout == FOLDERS else "train"
    pairs = open_labelled(
        layout,
        root,
        split,
        label_space=label_space,
        space=space,
        images=images,
        labels=labels,
        names=names,
        on_bad=on_bad,
        files=files,
        max_megapixels=max_megapixels,
    )
    row = LAYOUTS.get(layout)
    folder = root or images or Path()
    title = row.title if row else folder.resolve().name
    return LabelledSource(
        pairs=pairs,
        name=name or f"{title} {split}".strip(),
        licence=licence or (row.licence if row else "unknown"),
        space=declared_space(layout, label_space, space),
        origin=spec or f"{images} and {labels}",
    )


def _split_spec(spec: str) -> tuple[str, Path]:
    if spec and Path(spec).is_dir():
        return FOLDERS, Path(spec)
    layout, colon, root = spec.partition(":")
    if colon and root:
        return (layout if layout == FOLDERS else find_layout(layout).name), Path(root)
    raise DataError(
        f"'{spec}' is no folder and names no data set; give LAYOUT:ROOT, such as gta5:/data/gta5 (layouts: "
        f"{', '.join(layout_names())}), or a folder with images/ and labels/ in it"
    )
