"""Where the files lie that ship with the package: launch files, configuration and the model bundle."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["share_folders"]


def share_folders() -> Iterator[Path]:
    """Give the folders that may hold the shipped files, the likeliest first.

    They are the one of the sourced workspace, that of this Python environment, and the source tree.
    """
    try:
        from ament_index_python.packages import get_package_share_directory

        yield Path(get_package_share_directory("hrda_ros"))
    except (ImportError, LookupError, OSError):  # no ROS, not installed there, or AMENT_PREFIX_PATH is not set
        pass
    yield Path(sys.prefix) / "share" / "hrda_ros"
    yield Path(__file__).resolve().parents[1]
