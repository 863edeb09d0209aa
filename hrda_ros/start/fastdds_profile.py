"""Choose the Fast DDS profile for images before the node joins the ROS graph, unless the user chose one.

Fast DDS's default shared-memory segment has 512 KiB. Masks of larger images overrun it, and most of them are lost.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from importlib import metadata
from pathlib import Path

from hrda_core.share_folders import share_folders

__all__ = ["PROFILE", "SEGMENT_BYTES", "choose_profile", "profile_variable"]

PROFILE = Path("config") / "fastdds_large_images.xml"
"""The shipped profile, relative to the package's share folder."""

SEGMENT_BYTES = 72 << 20
"""Shared memory that the profile takes: its segment of 64 MiB and room for Fast DDS's ports."""

_NEW_NAME = "FASTDDS_DEFAULT_PROFILES_FILE"  # Fast DDS 3: Kilted and later
_OLD_NAME = "FASTRTPS_DEFAULT_PROFILES_FILE"  # Fast DDS 2: Humble, Jazzy; Kilted warns that it is out of date
# The last is ours: set to anything, it says that the profile is not to be chosen here.
_CHOICES = (_NEW_NAME, _OLD_NAME, "FASTDDS_BUILTIN_TRANSPORTS", "HRDA_FASTDDS_PROFILE")
_LAST_WITH_OLD_NAME = "jazzy"
_FIRST_RCLPY_WITH_NEW_NAME = 9


def choose_profile(environment: MutableMapping[str, str] = os.environ, memory: Path = Path("/dev/shm")) -> str | None:
    """Name the shipped profile in the environment of this process, where the user has named none and uses Fast DDS.

    It has to be called before `rclpy.init`, since Fast DDS reads the variable when the first node is made. A variable
    that is set, even to the empty text, is the user's choice and stays.

    Args:
        environment: variables to read and to change.
        memory: mount of the shared memory.

    Returns:
        a sentence for the log where the profile cannot be used; None = all is well.
    """
    other_middleware = "fastrtps" not in environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    if other_middleware or any(name in environment for name in _CHOICES):
        return None
    profile = next((path for path in (folder / PROFILE for folder in share_folders()) if path.is_file()), None)
    if profile is None:
        return f"the Fast DDS profile '{PROFILE}' is not installed: masks of large images may be lost"
    free = _free_bytes(memory)
    if free < SEGMENT_BYTES:
        return (
            f"'{memory}' has {free >> 20} MiB free and the Fast DDS profile for images needs {SEGMENT_BYTES >> 20}: "
            f"masks of large images may be lost; give the container more (docker run --shm-size=512m)"
        )
    environment[profile_variable(environment)] = str(profile)
    return None


def profile_variable(environment: Mapping[str, str] = os.environ) -> str:
    """Name of the variable by which Fast DDS of this ROS distribution finds its profile.

    Args:
        environment: variables of the process that is to join the ROS graph.

    Returns:
        the name: by the distribution that is sourced, else by the version of rclpy.
    """
    distribution = environment.get("ROS_DISTRO", "")
    if distribution:  # their first letters follow the alphabet
        return _OLD_NAME if distribution <= _LAST_WITH_OLD_NAME else _NEW_NAME
    for name in ("ros-rclpy", "rclpy"):
        try:
            major = int(metadata.version(name).split(".")[0])
        except (metadata.PackageNotFoundError, ValueError):
            continue
        return _NEW_NAME if major >= _FIRST_RCLPY_WITH_NEW_NAME else _OLD_NAME
    return _NEW_NAME


def _free_bytes(memory: Path) -> int:
    try:
        status = os.statvfs(memory)
    except OSError:
        return 0
    return status.f_bavail * status.f_frsize
