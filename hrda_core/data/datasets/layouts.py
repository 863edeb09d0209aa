"""Folder layouts of public data sets as downloaded: one table says where images and labels are.

A row is all that the other modules need to know of a data set; no file is converted or copied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hrda_core.data.image_files import LabelReader, read_labels, read_synthia_labels
from hrda_core.errors import DataError, proposal
from hrda_core.labels import CITYSCAPES_IDS, MAPILLARY_IDS, SYNTHIA_IDS, IdTable

__all__ = ["FOLDERS", "LAYOUTS", "Layout", "find_layout", "find_split", "layout_names"]

FOLDERS = "folders"
"""Name of the layout for own data: `images/` beside `labels/`, or two folders anywhere."""


@dataclass(frozen=True)
class Layout:
    """The places of a data set's files.

    Attributes:
        name: name in recipes and on command lines.
        title: title of the data set.
        images: glob below the root; `{split}` stands for the split's folder.
        pattern: regular expression of an image's relative path. Its last group is the image's short name.
        labels: relative label paths in groups of `pattern`; the first one that exists counts.
        splits: split -> folder, or a glob of several.
        labelled: the splits that come with labels.
        ids: native ids -> train ids; None = train ids as stored.
        reader: function that reads a label file.
        licence: a note for model cards; the data set's own terms count.
        known_unequal: short names of images whose labels have another size as published; such pairs are left out.
    """

    name: str
    title: str
    images: str
    pattern: str
    labels: tuple[str, ...]
    splits: Mapping[str, str]
    labelled: tuple[str, ...]
    ids: IdTable | None
    licence: str
    reader: LabelReader = read_labels
    known_unequal: frozenset[str] = frozenset()

    def find_images(self, root: Path, split: str) -> dict[str, Path]:
        """Return short name with folders -> image path, for all images of a split, sorted by path.

        Files whose name starts with a dot are left out.

        Raises:
            DataError: the split is unknown, the folder is missing, or there is no image.
        """
        folder = self.splits[find_split(self, split, tuple(self.splits))]
        if not root.is_dir():
            raise DataError(f"the root '{root}' of {self.title} does not exist; give the folder that was unpacked")
        glob = self.images.format(split=folder)
        files = (path for path in sorted(root.glob(glob)) if not path.name.startswith("."))
        paths = (path.relative_to(root).as_posix() for path in files)
        found = {relative: root / relative for relative in paths if re.fullmatch(self.pattern, relative)}
        if not found:
            there = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
            raise DataError(
                f"no images of {self.title}, split '{split}': expected '{glob}' below '{root}', found {there}; "
                f"give the folder that holds '{glob.split('/')[0]}'"
            )
        return found

    def short_name(self, relative: str) -> str:
        """Return an image's name without folders, endings and suffix."""
        match = re.fullmatch(self.pattern, relative)
        return Path(match[match.lastindex or 0]).name if match else Path(relative).stem

    def label_path(self, root: Path, relative: str) -> Path:
        """Return the label file of an image: the first candidate that exists, else the first candidate."""
        candidates = [root / re.sub(self.pattern, template, relative) for template in self.labels]
        return next((path for path in candidates if path.is_file()), candidates[0])


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def _by_condition(conditions: tuple[str, ...], splits: tuple[str, ...]) -> dict[str, str]:
    """ACDC: `train` for all conditions, `night/train` for one."""
    return {split: f"*/{split}" for split in splits} | {f"{c}/{s}": f"{c}/{s}" for c in conditions for s in splits}


_CONDITIONS = ("fog", "night", "rain", "snow")

LAYOUTS: Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            name="gta5",
            title="GTA5",
            images="images/*.png",
            pattern=r"images/(.+)\.png",
            labels=(r"labels/\1.png",),
            splits={"train": ""},
            labelled=("train",),
            ids=CITYSCAPES_IDS,
            licence="GTA5 (Richter et al. 2016): research and educational use",
            # Three public loaders of the data set name these.
            known_unequal=frozenset(f"{number:05d}" for number in (15188, 17705, *range(20801, 20861))),
        ),
        Layout(
            name="synthia",
            title="SYNTHIA-RAND-CITYSCAPES",
            images="RGB/*.png",
            pattern=r"RGB/(.+)\.png",
            labels=(r"GT/LABELS/\1.png",),
            splits={"train": ""},
            labelled=("train",),
            ids=SYNTHIA_IDS,
            reader=read_synthia_labels,
            licence="SYNTHIA (Ros et al. 2016): CC BY-NC-SA 3.0",
        ),
        Layout(
            name="cityscapes",
            title="Cityscapes",
            images="leftImg8bit/{split}/*/*_leftImg8bit.png",
            pattern=r"leftImg8bit/(.+)_leftImg8bit\.png",
            labels=(r"gtFine/\1_gtFine_labelIds.png",),
            splits=_same("train", "val", "test", "train_extra"),
            labelled=("train", "val"),
            ids=CITYSCAPES_IDS,
            licence="Cityscapes (Cordts et al. 2016): non-commercial, registration",
        ),
        Layout(
            name="acdc",
            title="ACDC",
            images="rgb_anon/{split}/*/*_rgb_anon.png",
            pattern=r"rgb_anon/(.+)_rgb_anon\.png",
            labels=(r"gt/\1_gt_labelTrainIds.png",),
            splits=_by_condition(_CONDITIONS, ("train", "val", "test")),
            labelled=tuple(_by_condition(_CONDITIONS, ("train", "val"))),
            ids=None,
            licence="ACDC (Sakaridis et al. 2021): non-commercial, registration",
        ),
        Layout(
            name="dark_zurich",
            title="Dark Zurich",
            images="rgb_anon/{split}/*/*_rgb_anon.png",
            pattern=r"rgb_anon/(.+)_rgb_anon\.png",
            labels=(r"gt/\1_gt_labelTrainIds.png",),
            splits={"train": "train/night", "val": "val/night", "test": "test/night"}
            | _same("train/day", "train/twilight", "train/night", "val/night", "test/night"),
            labelled=("val", "val/night"),
            ids=None,
            licence="Dark Zurich (Sakaridis et al. 2019): non-commercial",
        ),
        Layout(
            name="bdd100k",
            title="BDD100K",
            images="images/10k/{split}/*.jpg",
            pattern=r"images/10k/(.+)\.jpg",
            labels=(r"labels/sem_seg/masks/\1.png",),
            splits=_same("train", "val", "test"),
            labelled=("train", "val"),
            ids=None,
            licence="BDD100K (Yu et al. 2020): research and educational use",
        ),
        Layout(
            name="mapillary",
            title="Mapillary Vistas",
            images="{split}/images/*.jpg",
            pattern=r"(\w+)/images/(.+)\.jpg",
            # Version 2.0 keeps the annotations of 1.2 in a folder of their own.
            labels=(r"\1/v1.2/labels/\2.png", r"\1/labels/\2.png"),
            splits={"train": "training", "val": "validation", "test": "testing"},
            labelled=("train", "val"),
            ids=MAPILLARY_IDS,
            licence="Mapillary Vistas (Neuhold et al. 2017): CC BY-NC-SA 4.0",
        ),
    )
}
"""Layout name -> row. `FOLDERS` has no row: its folders are given."""


def layout_names() -> tuple[str, ...]:
    """Return the names that `open_labelled` takes."""
    return (*LAYOUTS, FOLDERS)


def find_layout(name: str) -> Layout:
    """Return the row of that name.

    Raises:
        DataError: it is unknown; the nearest known name is proposed.
    """
    if name in LAYOUTS:
        return LAYOUTS[name]
    raise DataError(f"data layout '{name}' is not known; {proposal(name, layout_names())}")


def find_split(layout: Layout, split: str, allowed: tuple[str, ...]) -> str:
    """Return `split` if the layout allows it.

    Raises:
        DataError: it is unknown, or has no labels where they are needed; the nearest allowed name is proposed.
    """
    if split in allowed:
        return split
    if split in layout.splits:
        raise DataError(
            f"split '{split}' of {layout.title} has no labels; with labels come {', '.join(allowed)}; "
            f"as an unlabelled target it can be used"
        )
    raise DataError(f"split '{split}' of layout '{layout.name}' is not known; {proposal(split, allowed)}")
