"""The link by which a node loads its model: what it leads to, and how it is moved in one moment."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from hrda_core.errors import BundleError
from hrda_core.inference.bundle import MANIFEST_NAME
from hrda_core.whole_files import PART_SUFFIX, sync

__all__ = ["goal_of", "move_link"]


def goal_of(link: Path) -> Path:
    """Return the folder of the bundle that a link leads to, resolved.

    Raises:
        BundleError: it is no link, or leads to no bundle.
    """
    if not link.is_symlink():
        if (link / MANIFEST_NAME).is_file():
            raise BundleError(
                f"'{link}' is a bundle itself, and hrda night moves a link from one bundle to the next; make one "
                f"('ln -s {link.name} {link.parent / 'current'}'), give it here and as the node's parameter model"
            )
        raise BundleError(f"'{link}' is no link to a bundle; make one: ln -s BUNDLE {link}")
    goal = Path(os.path.realpath(link))
    if not (goal / MANIFEST_NAME).is_file():
        raise BundleError(
            f"link '{link}' leads to '{goal}', which is no bundle; let it lead to one: ln -sfn BUNDLE {link}"
        )
    return goal


def move_link(link: Path, goal: Path) -> None:
    """Let a link lead to another bundle. At every moment it leads to the old or the new one, also after a power cut.

    The link is written relative to its folder, so that it holds where the folder above both is mounted elsewhere.

    Raises:
        BundleError: the folder of the link cannot be written; the link is as it was.
    """
    folder = Path(os.path.realpath(link.parent))
    part = folder / f".{secrets.token_hex(8)}{PART_SUFFIX}"
    try:
        part.symlink_to(os.path.relpath(os.path.realpath(goal), folder))
        part.replace(folder / link.name)
        sync(folder)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise BundleError(
            f"link '{link}' cannot be moved ({error.strerror}); make its folder writable for this user"
        ) from error
