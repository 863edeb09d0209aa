"""Finds the pairs of image and label in two folders of one's own, by the ends of their names and by patterns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from hrda_core.data.datasets.name_lists import select_names
from hrda_core.data.frames import find_images as images_below
from hrda_core.errors import DataError

__all__ = ["FolderFiles", "find_images", "find_pairs"]

_SHOWN = 4  # files that a sentence shows of what is there
_STAR = "*"


@dataclass(frozen=True)
class FolderFiles:
    """How the files of two folders are named and read.

    Attributes:
        image_suffix: end of the images' names, such as `_leftImg8bit.png`; empty = every image.
        label_suffix: what a label file has in the place of `image_suffix`, such as `_gtFine_labelIds.png`; empty =
            `.png` in the place of the image's own suffix.
        label_colors: the label files are pictures in the colours of the classes, not in their ids.
    """

    image_suffix: str = ""
    label_suffix: str = ""
    label_colors: bool = False

    def stem(self, relative: str) -> str:
        """Return the short name of an image: without folders and suffix."""
        return PurePosixPath(self._without(relative)).name

    def label_name(self, relative: str) -> str:
        """Return the relative path of the label file of an image."""
        return self._without(relative) + (self.label_suffix or ".png")

    def _without(self, relative: str) -> str:
        if self.image_suffix:
            return relative[: -len(self.image_suffix)]
        return PurePosixPath(relative).with_suffix("").as_posix()


def find_pairs(
    images: Path,
    labels: Path,
    split: str,
    files: FolderFiles,
    *,
    names: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
) -> tuple[list[tuple[Path, Path]], str]:
    """Return images and their label files, which may be absent, and a sentence on pictures that are not read.

    Args:
        images, labels: folders, searched recursively. A folder of the path may be `*`; it stands for any one folder,
            and for the same one in both.
        split: folder name that a list may put before a name.
        files: how the files are named.
        names, exclude: see `hrda_core.data.datasets.name_lists`.

    Raises:
        DataError: a folder is missing, no image has a name that fits, or no image at all has labels; what is there is
            shown.
    """
    if images.parts.count(_STAR) != labels.parts.count(_STAR):
        raise DataError(f"'{images}' and '{labels}' differ in the number of *; each stands for the same folder in both")
    for folder in (_fixed(images), _fixed(labels)):
        if not folder.is_dir():
            raise DataError(f"data folder '{folder}' does not exist; give folders of images and of label PNGs")
    base = _fixed(images)
    found, left_out = find_images(images, files)
    chosen = select_names(found, names, split, files.stem, base, exclude)
    pattern = re.compile(_expression(images.relative_to(base)))
    pairs = []
    for relative, path in chosen:
        match = pattern.match(relative)
        assert match is not None
        stars = iter(match.groups())
        folder = Path(*(next(stars) if part == _STAR else part for part in labels.parts))
        pairs.append((path, folder / files.label_name(relative[match.end() :])))
    if pairs and not any(label.is_file() for _, label in pairs):
        expected = pairs[0][1]
        raise DataError(
            f"none of {len(pairs)} images has a label file: expected '{expected}' and so on; found "
            f"{_some(expected.parent, _fixed(labels))}; give the folder of the labels, or image_suffix and label_suffix"
        )
    return pairs, left_out


def find_images(folder: Path, files: FolderFiles) -> tuple[dict[str, Path], str]:
    """Return relative path -> path of the images below a folder, and a sentence on pictures that are not read.

    The folder's path may hold `*`.

    Raises:
        DataError: the folder is missing, it holds no image, or none with a name that fits; what is there is shown.
    """
    base = _fixed(folder)
    images, left_out = images_below(base)
    there = {path.relative_to(base).as_posix(): path for path in images}
    pattern = re.compile(_expression(folder.relative_to(base)))
    found = {name: path for name, path in there.items() if pattern.match(name) and name.endswith(files.image_suffix)}
    if not found:
        asked = f" that ends with '{files.image_suffix}'" if files.image_suffix else ""
        raise DataError(f"no image below '{folder}'{asked}; found {_names(list(there))}; change image_suffix or folder")
    return found, "" if files.image_suffix else left_out


def _fixed(folder: Path) -> Path:
    """The path before its first `*`."""
    parts = folder.parts
    return Path(*parts[: parts.index(_STAR)]) if _STAR in parts else folder


def _expression(pattern: Path) -> str:
    """Regular expression of the folders of a pattern, each with its slash; a group for every `*`."""
    parts = () if pattern == Path() else pattern.parts
    return "".join(("([^/]+)" if part == _STAR else re.escape(part)) + "/" for part in parts)


def _some(folder: Path, above: Path) -> str:
    """What lies in a folder or, where there is none, below the one that was given."""
    where = folder if folder.is_dir() else above
    return _names([path.relative_to(where).as_posix() for path in sorted(where.rglob("*")) if path.is_file()])


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown or "nothing"
