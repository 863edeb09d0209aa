"""Checks of the ROS distribution and its packages, of the RMW, of RViz, and of the folder of ROS logs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from hrda_core.errors import HrdaError, one_line
from hrda_core.findings import Finding, fail, of_error, ok, warn
from hrda_ros.start.requirements import check_requirements, sourced_distributions

__all__ = ["check_distribution", "check_logs", "check_packages", "check_rmw", "check_rviz", "rmw_in_use", "ros_is_here"]

_KNOWN = ("humble", "jazzy", "kilted", "lyrical", "rolling")
_OPTIONAL = {"nav_msgs": "ground_node", "tf2_ros": "ground_node's tf", "vision_msgs": "~/label_info of nav2"}
DEFAULT_RMW = "rmw_fastrtps_cpp"


def ros_is_here(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a distribution is sourced, or rclpy is there without one, as the pip wheels bring it."""
    return bool(sourced_distributions(environment)) or "ROS_DISTRO" in environment or _there("rclpy")


def check_distribution(environment: Mapping[str, str] = os.environ, installs: Path = Path("/opt/ros")) -> Finding:
    """Name the distribution that is sourced, or say that none is and what to do."""
    names = sourced_distributions(environment)
    if len(names) > 1:
        text = f"{' and '.join(names)} are sourced in this shell, and their libraries do not mix"
        return fail("ROS 2", text, "open a new shell and source one of them (look into ~/.bashrc too)")
    # A distribution that was built from source has prefixes of other names, and ROS_DISTRO alone.
    name = next(iter(names), environment.get("ROS_DISTRO", ""))
    if name and name not in _KNOWN:
        return warn("ROS 2", f"{name}, on which nothing was tried", f"use one of {', '.join(_KNOWN[:-1])}")
    if name:
        return ok("ROS 2", name)
    if _there("rclpy"):
        return ok("ROS 2", f"no distribution, rclpy {_version('ros-rclpy', 'rclpy')} of the pip wheels")
    there = sorted(path.parent.name for path in installs.glob("*/setup.bash"))
    text = "no ROS: the node does not run in this shell, commands on recordings do"
    if there:
        return warn("ROS 2", text, f"run 'source {installs}/{there[-1]}/setup.bash', then the workspace's setup.bash")
    return warn("ROS 2", text, "on a robot install a distribution, elsewhere run pip install -e '.[ros]' in the source")


def check_packages(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Import rclpy and the messages that the node uses; nothing where there is no ROS."""
    if not ros_is_here(environment):
        return []
    try:
        check_requirements()
    except HrdaError as error:
        return [of_error("rclpy, messages", "fail", error)]
    lacking = [f"{name} ({what})" for name, what in _OPTIONAL.items() if not _there(name)]
    without = f"; not there, and optional: {', '.join(lacking)}" if lacking else ""
    return [ok("rclpy, messages", f"those of the node import{without}")]


def rmw_in_use(environment: Mapping[str, str] = os.environ) -> str:
    """Return the name of the RMW that a node of this environment loads."""
    return environment.get("RMW_IMPLEMENTATION") or DEFAULT_RMW


def check_rmw(loaded: Callable[[], str], environment: Mapping[str, str] = os.environ) -> Finding:
    """Load the RMW.

    Args:
        loaded: returns the identifier of the one that rclpy has loaded.
    """
    wanted = rmw_in_use(environment)
    try:
        name = loaded()
    except Exception as error:  # rclpy's own classes, other ones in each distribution
        text = f"{wanted} does not load ({one_line(error)})"
        return fail("RMW", text, _install(wanted))
    why = "by RMW_IMPLEMENTATION" if environment.get("RMW_IMPLEMENTATION") else "the default"
    if environment.get("RMW_IMPLEMENTATION") and name != wanted:
        return fail("RMW", f"{name} is loaded, {wanted} was asked for", _install(wanted))
    domain, reach = environment.get("ROS_DOMAIN_ID", "0"), environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    return ok("RMW", f"{name}, {why}; domain {domain}{', range ' + reach if reach else ''}")


def _install(rmw: str) -> str:
    return f"install ros-DISTRO-{rmw.replace('_', '-')}, or unset RMW_IMPLEMENTATION"


def check_logs(environment: Mapping[str, str] = os.environ) -> Finding:
    """Look whether ROS can write its logs, without which no node starts."""
    home = environment.get("ROS_HOME") or os.path.join(os.path.expanduser("~"), ".ros")
    folder = Path(environment.get("ROS_LOG_DIR") or os.path.join(home, "log"))
    there = next((path for path in (folder, *folder.parents) if os.path.exists(path)), Path("/"))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return ok("ROS logs", f"'{folder}' can be written")
    text = f"'{folder}' cannot be written, and a node that cannot log does not start"
    return fail("ROS logs", text, "set ROS_LOG_DIR to a folder that can be written")


def check_rviz(environment: Mapping[str, str] = os.environ) -> Finding:
    """Look for RViz, which only people need."""
    prefixes = [Path(entry) for entry in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    found = shutil.which("rviz2", path=environment.get("PATH")) or next(
        (str(prefix) for prefix in prefixes if (prefix / "lib" / "rviz2" / "rviz2").exists()), ""
    )
    if not found:
        name = environment.get("ROS_DISTRO", "DISTRO")
        return ok("RViz", f"not installed; rviz:=true of the launch files needs it (sudo apt install ros-{name}-rviz2)")
    screen = environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    return ok("RViz", found if screen else f"{found}; this session has no screen, so rviz:=true cannot open it")


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _version(*packages: str) -> str:
    installed = [entry.version for package in packages for entry in importlib.metadata.distributions(name=package)]
    return installed[0] if installed else "of unknown version"
