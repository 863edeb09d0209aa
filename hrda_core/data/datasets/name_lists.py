"""Picks images by the names of a list, however the list's author wrote them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from hrda_core.data.image_files import IMAGE_SUFFIXES
from hrda_core.errors import DataError

__all__ = ["select_names"]


def select_names(
    found: Mapping[str, Path],
    names: Sequence[str] | None,
    split: str,
    short_name: Callable[[str], str],
    where: Path,
    exclude: Sequence[str] = (),
) -> list[tuple[str, Path]]:
    """Return relative path and path of the wanted images, in the order of `names`.

    Args:
        found: relative path -> path of all images.
        names: relative path, file name or short name, with or without suffix; "SPLIT/" before it may be there or not.
            None = all.
        split: folder name that a list may put before a name; the name of `where` may stand there too.
        short_name: relative path -> name without folders and data set endings.
        where: folder of the images, for messages.
        exclude: names of images to leave out, written as `names`.

    Raises:
        DataError: names fit no image or several, the first is named; or none is left.
    """
    if names is None and not exclude:
        return list(found.items())
    index = _index(found, short_name)
    folders = (split, where.name)
    wanted = list(found) if names is None else _fitting(index, names, folders, where, "listed")
    unwanted = set(_fitting(index, exclude, folders, where, "excluded"))
    chosen = [(relative, found[relative]) for relative in wanted if relative not in unwanted]
    if not chosen:
        raise DataError(f"exclude leaves none of {len(wanted)} images below '{where}'; exclude fewer")
    return chosen


def _fitting(
    index: Mapping[str, set[str]], names: Sequence[str], folders: Sequence[str], where: Path, kind: str
) -> list[str]:
    """The one image that each name fits."""
    matches = [next((index[form] for form in _forms(name, folders) if form in index), set()) for name in names]
    absent = [name for name, match in zip(names, matches, strict=True) if not match]
    if absent:
        raise DataError(f"{len(absent)} {kind} images are not below '{where}', first '{absent[0]}'")
    unclear = [(name, sorted(match)) for name, match in zip(names, matches, strict=True) if len(match) > 1]
    if unclear:
        name, several = unclear[0]
        raise DataError(f"the {kind} name '{name}' fits several images below '{where}': {', '.join(several[:3])}")
    return [relative for match in matches for relative in match]


def _index(found: Mapping[str, Path], short_name: Callable[[str], str]) -> dict[str, set[str]]:
    """Name in any form -> the images that it fits. A whole relative path means that image alone."""
    index: dict[str, set[str]] = {}
    for relative in found:
        whole = PurePosixPath(relative).with_suffix("")
        for path in (whole, whole.with_name(short_name(relative))):
            for start in range(len(path.parts)):
                index.setdefault("/".join(path.parts[start:]), set()).add(relative)
    return index | {PurePosixPath(relative).with_suffix("").as_posix(): {relative} for relative in found}


def _forms(name: str, folders: Sequence[str]) -> Iterator[str]:
    plain = str(PurePosixPath(name).with_suffix("")) if name.lower().endswith(IMAGE_SUFFIXES) else name
    plain = plain.removeprefix("./")
    yield plain
    for folder in folders:
        yield plain.removeprefix(f"{folder}/")
        yield f"{folder}/{plain}"
