"""Where the source packs lie that came with the package, and what the text of an option `--source` means.

find_source("streets")    a bare name: among the installed packs first, found as the installed models are
find_source("none")       no labelled images
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hrda_core.data.packs.format import MANIFEST, is_pack
from hrda_core.errors import DataError
from hrda_core.share_folders import is_package, shipped_folders

__all__ = ["DEFAULT_PACK", "NO_SOURCE", "FoundSource", "bring_back", "find_source", "is_shipped"]

DEFAULT_PACK = "streets"
"""The pack that comes with the package."""

NO_SOURCE = "none"
"""What a user writes who wants no labelled images."""

_FOLDER = "packs"


@dataclass(frozen=True)
class FoundSource:
    """What the text of an option `--source` means here.

    Attributes:
        spec: a folder, or `LAYOUT:ROOT`; empty = no labelled images.
        remark: which pack a bare name was found as, one line for the user; empty where it was no name.
    """

    spec: str
    remark: str = ""


def find_source(given: str) -> FoundSource:
    """What `--source` means: no labelled images, the name of an installed pack, or what `open_source` takes, as given.

    Raises:
        DataError: it is the pack that comes with the package, and that is nowhere.
    """
    if given in ("", NO_SOURCE):
        return FoundSource("")
    if os.sep in given or ":" in given or given in (".", ".."):
        return FoundSource(given)
    folders = shipped_folders(_FOLDER)
    found = next((folder / given for folder in folders if is_pack(folder / given)), None)
    if found is None:
        if given == DEFAULT_PACK:  # not one of that name in the working folder: it is the default, everywhere the same
            places = " and ".join(f"'{folder}'" for folder in folders) or "this package"
            raise DataError(
                f"{places} lacks the source pack '{given}' ({MANIFEST} is missing), which comes with hrda_ros: "
                f"{bring_back(given)}"
            )
        return FoundSource(given)
    remark = f"source '{given}' is '{found}' (installed)"
    if os.path.isdir(given) and not os.path.samefile(given, found):
        remark += f"; for the folder here write ./{given}"
    return FoundSource(str(found), remark)


def is_shipped(pack: Path) -> bool:
    """Whether a pack came with the package: in the share folder of an install, or by its name in a source tree."""
    place = Path(os.path.abspath(pack))
    package = place.parent.parent
    if place.parent.name != _FOLDER or not is_package(package):
        return False
    return place.name == DEFAULT_PACK or not (package / "setup.py").is_file()


def bring_back(name: str) -> str:
    """What to do where a pack that came with the package is absent or damaged; the end of a sentence."""
    return (
        f"in a clone, 'git checkout -- {_FOLDER}/{name}' brings it back, and a build or install from there does "
        f"elsewhere; or give another --source, or do without labelled images: --source {NO_SOURCE}"
    )
