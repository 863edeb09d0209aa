"""The environment of the demo's processes: a ROS graph of their own, whatever the calling shell has sourced."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path

from hrda_ros.fastdds_profile import profile_variable

__all__ = ["child_environment"]

_DROPPED_PREFIXES = ("ROS_", "RMW_", "RCUTILS_", "AMENT_", "COLCON_", "FASTDDS_", "FASTRTPS_", "CYCLONEDDS_", "ZENOH_")
# LD_LIBRARY_PATH and its guard belong to the interpreter that set them: the ROS wheels of the demo's own interpreter
# build both anew. PYTHONPATH of a sourced distribution would hide those wheels.
_DROPPED_NAMES = ("LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE", "PYTHONPATH")


def child_environment(
    log_folder: Path, fastdds_profile: Path, inherited: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the variables for the node, the player and the recorder.

    Args:
        log_folder: where rcl writes its logs.
        fastdds_profile: Fast DDS profile with a shared-memory segment that holds whole images.
        inherited: environment to start from; None = this process's.
    """
    source = os.environ if inherited is None else inherited
    kept = {
        name: value
        for name, value in source.items()
        if not name.startswith(_DROPPED_PREFIXES) and name not in _DROPPED_NAMES
    }
    return {
        **kept,
        # Up to 101, the highest domain whose UDP ports lie below the range that Linux hands out itself.
        "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 101)),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "ROS_LOG_DIR": str(log_folder),
        profile_variable(kept): str(fastdds_profile),
        "PYTHONUNBUFFERED": "1",
    }
