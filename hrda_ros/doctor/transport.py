"""Checks of how images travel: Fast DDS's shared memory, and the kernel's socket buffers where the RMW needs them.

The figures for the kernel are those of the ROS 2 documentation on DDS tuning: Cyclone DDS and Connext send images to
processes of the same machine by UDP, Fast DDS by shared memory, Zenoh by TCP.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hrda_core.findings import Finding, fail, of_error, ok, warn
from hrda_ros.start.fastdds_profile import SEGMENT_BYTES, choose_profile, profile_variable

__all__ = ["check_kernel_buffers", "check_shared_memory"]

_NEEDED_RMEM = {"cyclonedds": 10 << 20, "connext": 4 << 20}
"""net.core.rmem_max that the documentation asks for at least, bytes."""

_MANY_SEGMENTS = 64
_FAST_DDS_FILES = ("fastrtps_*", "fastdds_*")


def check_shared_memory(
    rmw: str, environment: Mapping[str, str] = os.environ, memory: Path = Path("/dev/shm")
) -> list[Finding]:
    """Look at the Fast DDS profile for images and at the shared memory that it takes; nothing for another RMW."""
    if "fastrtps" not in rmw:
        return []
    return [_profile(environment, memory), *_leftovers(memory)]


def _profile(environment: Mapping[str, str], memory: Path) -> Finding:
    read = (profile_variable(environment), "FASTRTPS_DEFAULT_PROFILES_FILE")  # the older name is read everywhere
    own = next((name for name in read if environment.get(name)), "")
    if own:
        path = Path(environment[own])
        if not path.is_file():
            return fail("shared memory", f"{own} names '{path}', which is no file", f"mend {own}, or unset it")
        return ok("shared memory", f"the profile '{path}' of {own}")
    chosen = dict(environment)
    problem = choose_profile(chosen, memory)
    if problem is not None:
        return of_error("shared memory", "warn", problem) if "; " in problem else warn("shared memory", problem, _AGAIN)
    name = next((name for name in chosen if name not in environment), "")
    if not name:
        text = "the environment chose its own transports, so the node takes no profile"
        return ok("shared memory", text)
    size = _size(memory)
    return ok(
        "shared memory",
        f"the node takes '{Path(chosen[name]).name}' ({SEGMENT_BYTES >> 20} MiB of the {size >> 20} in '{memory}'); a "
        f"camera driver needs {name}={chosen[name]}",
    )


_AGAIN = "install the package again, and source its workspace"


def _leftovers(memory: Path) -> list[Finding]:
    """Segments of killed processes stay until somebody removes them."""
    count = sum(1 for pattern in _FAST_DDS_FILES for _ in memory.glob(pattern))
    if count < _MANY_SEGMENTS:
        return []
    text = f"'{memory}' holds {count} files of Fast DDS, more than a robot's nodes make: killed processes leave theirs"
    return [warn("old segments", text, "run 'fastdds shm clean', which leaves those of running processes")]


def _size(memory: Path) -> int:
    status = os.statvfs(memory)
    return status.f_blocks * status.f_frsize


def check_kernel_buffers(rmw: str, settings: Path = Path("/proc/sys")) -> list[Finding]:
    """Look at the kernel's socket buffers as far as the RMW depends on them; nothing where it does not."""
    if "zenoh" in rmw:
        return []
    try:
        limit = int((settings / "net" / "core" / "rmem_max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return []  # as in some containers
    needed = next((bytes_ for name, bytes_ in _NEEDED_RMEM.items() if name in rmw), 0)
    text = f"net.core.rmem_max is {limit} bytes"
    if limit >= needed:
        far = "" if needed else "; it matters for images of other machines alone, since local ones take shared memory"
        return [ok("kernel buffers", text + far)]
    advice = f"run 'sudo sysctl -w net.core.rmem_max={_ADVISED.get(_kind(rmw), needed)}', and put it into /etc/sysctl.d"
    return [warn("kernel buffers", f"{text}: {rmw} loses large images", advice)]


_ADVISED = {"cyclonedds": 2147483647}


def _kind(rmw: str) -> str:
    return next((name for name in _NEEDED_RMEM if name in rmw), "")
