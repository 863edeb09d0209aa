"""Checks what the node needs before its modules can be imported, and says in one sentence what is missing."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path

from hrda_core.errors import HrdaError, one_line
from hrda_core.libraries import check_libraries

__all__ = ["check_requirements", "sourced_distributions"]

# What the modules of this package import of ROS.
_ROS_PACKAGES = (
    "rclpy",
    "diagnostic_msgs.msg",
    "rcl_interfaces.msg",
    "sensor_msgs.msg",
    "std_msgs.msg",
    "std_srvs.srv",
)


def check_requirements(*further: str) -> None:
    """Import numpy, PyYAML, OpenCV and the ROS packages.

    Args:
        further: modules of ROS packages that one node needs beside them.

    Raises:
        HrdaError: one of them does not import; the text is one sentence that says what to run.
    """
    check_libraries()
    try:
        for package in (*_ROS_PACKAGES, *further):
            importlib.import_module(package)
    except ImportError as error:
        raise HrdaError(
            f"the ROS package '{package.partition('.')[0]}' does not import ({one_line(error)}); {_remedy()}"
        ) from error


def sourced_distributions(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the ROS distributions that were sourced, sorted; `AMENT_PREFIX_PATH` has `/opt/ros/NAME`."""
    prefixes = [Path(entry) for entry in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    return sorted({prefix.name for prefix in prefixes if prefix.parent.name == "ros"})


def _remedy() -> str:
    names = sourced_distributions(os.environ)
    if len(names) > 1:
        return (
            f"{' and '.join(names)} are sourced in this shell, and their libraries do not mix: open a new shell and "
            f"source one of them"
        )
    if names:
        return (
            f"{names[0]} is sourced: run 'rosdep install --from-paths src --ignore-src -y' in the workspace, and start "
            f"the node by the distribution's own Python"
        )
    return (
        "source your distribution and the workspace: 'source /opt/ros/DISTRO/setup.bash', 'source install/setup.bash'"
    )
