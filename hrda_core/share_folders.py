"""The folders where the files lie that ship with the package: launch files, configuration and model bundles,
source packs."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["is_package", "share_folders", "shipped_folders"]

_PACKAGE, _MANIFEST = "hrda_ros", "package.xml"


def share_folders() -> Iterator[Path]:
    """Give the folders that may hold the shipped files, the likeliest first.

    They are those of the sourced workspaces, as ROS finds them, that of this Python environment, and the source tree,
    unless an install with links leads to it.
    """
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    installed = [Path(prefix) / "share" / _PACKAGE for prefix in prefixes if prefix]
    yield from installed
    source = Path(__file__).resolve().parents[1]
    linked = {os.path.realpath(folder / _MANIFEST) for folder in installed}
    # Installed by pip, without links, it is the folder of all packages.
    if is_package(source) and os.path.realpath(source / _MANIFEST) not in linked:
        yield source


def shipped_folders(name: str) -> tuple[Path, ...]:
    """Give the folders of one kind of shipped files, such as `models` or `packs`, first the one that ROS finds: of the
    sourced workspaces, of this Python, of the source tree. Those that do not exist are left out."""
    return tuple(dict.fromkeys(folder / name for folder in share_folders() if os.path.isdir(folder / name)))


def is_package(folder: Path) -> bool:
    """Return whether a folder is the source tree of this package, or its share folder, by its package.xml."""
    try:
        text = (folder / _MANIFEST).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return re.search(rf"<name>\s*{_PACKAGE}\s*</name>", text) is not None
