"""The environment of the demo's processes: a ROS graph of their own, whatever the calling shell has sourced."""

from __future__ import annotations

import os
import random
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from hrda_ros.start.fastdds_profile import profile_variable

__all__ = ["child_environment", "free_domain"]

_DOMAINS = range(1, 102)
"""Up to 101, the highest domain whose UDP ports lie below the range that Linux hands out itself."""
_SHARED_MEMORY = Path("/dev/shm")

_DROPPED_PREFIXES = ("ROS_", "RMW_", "RCUTILS_", "AMENT_", "COLCON_", "FASTDDS_", "FASTRTPS_", "CYCLONEDDS_", "ZENOH_")
# LD_LIBRARY_PATH and its guard belong to the interpreter that set them: the ROS wheels of the demo's own interpreter
# build both anew. PYTHONPATH of a sourced distribution would hide those wheels.
_DROPPED_NAMES = ("LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE", "PYTHONPATH")

_HELD: dict[int, int] = {}
"""Domain that this process holds -> descriptor of the socket that says so."""


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
        "ROS_DOMAIN_ID": str(free_domain()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "ROS_LOG_DIR": str(log_folder),
        profile_variable(kept): str(fastdds_profile),
        "PYTHONUNBUFFERED": "1",
    }


def free_domain() -> int:
    """Draw a DDS domain, 1 to 101, in which no other process of this machine takes part, or has left anything.

    It is this process's until it ends: no other one draws it, although between two nodes nothing else tells that it is
    taken.

    The first participant of a domain binds UDP port 7410 + 250 * domain (OMG DDSI-RTPS 2.2, section 9.6.1). A process
    that was killed leaves the shared memory of its ports, and Fast DDS loses messages to those who come after it there.
    """
    drawn = random.SystemRandom().sample(_DOMAINS, len(_DOMAINS))
    free = [domain for domain in drawn if _port_is_free(7410 + 250 * domain)]
    left = _domains_with_leftovers()
    clean = [domain for domain in free if domain not in left]
    return next((domain for domain in (*clean, *free, *drawn) if _hold(domain)), drawn[0])


def _hold(domain: int) -> bool:
    """Keep a domain by a name among this machine's sockets, which the kernel frees when the process has ended."""
    if domain not in _HELD:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
            try:
                held.bind(f"\0hrda_ros_domain_{domain}")
            except OSError:
                return False
            _HELD[domain] = held.detach()
    return True


def _domains_with_leftovers() -> set[int]:
    """Domains of which Fast DDS holds ports in shared memory: `fastdds_port7411`, `fastrtps_port...` before 3.0."""
    ports = [re.match(r"fast(?:dds|rtps)_port(\d+)", file.name) for file in _SHARED_MEMORY.glob("fast*_port*")]
    return {(int(port[1]) - 7400) // 250 for port in ports if port}


def _port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        try:
            tried.bind(("", port))
        except OSError:
            return False
    return True
