"""Checks of the interpreter and of the Python packages: those of every program, and those that single commands need.

What is imported is imported by a process of its own, since a library that does not fit can end the process.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Sequence

from hrda_core.errors import PACKAGES, how_to_install
from hrda_core.findings import Finding, fail, of_error, ok, warn
from hrda_core.machine import versions

__all__ = ["check_commands", "check_interpreter", "check_libraries_together", "check_numpy_series", "run_python"]

OLDEST, NEWEST = (3, 10), (3, 14)
_TIMEOUT_S = 60.0
_LIBRARIES = """
from hrda_core.errors import HrdaError
from hrda_core.libraries import check_libraries
try:
    check_libraries()
except HrdaError as error:
    raise SystemExit(str(error))
import cv2, numpy, yaml
print(f"numpy {numpy.__version__}, OpenCV {cv2.__version__}, PyYAML {yaml.__version__}")
"""


def run_python(code: str, timeout_s: float = _TIMEOUT_S) -> tuple[int, str]:
    """Run Python code in a process of its own.

    Returns:
        its exit code (negative = the signal that ended it), and the last line that it wrote: of its errors where the
        code is not 0.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, f"it gave no answer within {timeout_s:.0f} s"
    said = done.stderr if done.returncode else done.stdout
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return done.returncode, lines[-1] if lines else f"exit code {done.returncode}"


def check_interpreter(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """Look at the Python that runs this command."""
    text = f"Python {'.'.join(map(str, version))} ({sys.executable}), {platform.machine()} {platform.system()}"
    if OLDEST <= version[:2] <= NEWEST:
        return ok("Python", text)
    known = f"{'.'.join(map(str, OLDEST))} to {'.'.join(map(str, NEWEST))}"
    return fail("Python", text, f"use one of Python {known}, on a robot the /usr/bin/python3 of its distribution")


def check_libraries_together(run: Callable[[str], tuple[int, str]] = run_python) -> Finding:
    """Import numpy, PyYAML and OpenCV together, as the node and every command do."""
    code, line = run(_LIBRARIES)
    return of_error("numpy, OpenCV", "fail", line) if code else ok("numpy, OpenCV", line)


def check_numpy_series(ros_is_sourced: bool, versions: Sequence[str] | None = None) -> Finding | None:
    """Compare numpy with the one that the distribution brings, whose other packages were built for it.

    Args:
        ros_is_sourced: whether a ROS distribution is; without one nothing of the system is used.
        versions: those on Python's path, first the one that is imported, last the distribution's; None = ask.
    """
    if versions is None:
        versions = [entry.version for entry in importlib.metadata.distributions(name="numpy")]
    if not ros_is_sourced or not versions:
        return None
    used, own = versions[0], versions[-1]
    if _series(used) == _series(own):
        return ok("numpy's series", f"{used}, of the distribution's series")
    return warn(
        "numpy's series",
        f"numpy {used} hides the distribution's {own}, for which OpenCV and the messages of ROS were built",
        how_to_install("runtime") + f" and brings numpy {_series(own)} back",
    )


def _series(version: str) -> str:
    return ".".join([*re.findall(r"\d+", version), "0"][:2])


def check_commands(is_there: Callable[[str], bool] | None = None) -> list[Finding]:
    """Tell which packages are missing that only some commands need."""
    there = is_there or _is_there
    recordings = [name for name, (_, extra) in PACKAGES.items() if extra == "bag"]
    training = [name for name, (_, extra) in PACKAGES.items() if extra == "train"]
    findings = []
    if missing := [PACKAGES[name][0] for name in recordings if not there(name)]:
        text = f"{', '.join(missing)} missing: commands on recordings do not run, the node does"
        findings.append(warn("commands", text, how_to_install("bag")))
    else:
        findings.append(ok("commands", "the packages of the commands on recordings are there"))
    missing = [PACKAGES[name][0] for name in training if not there(name)]
    if not missing:
        torch = versions().get("torch", "of unknown version")
        findings.append(ok("training", f"torch {torch} and what adapt, train and night need beside it"))
    elif "torch" in missing:
        findings.append(
            ok("training", "no torch: this machine predicts, and does not adapt or train, which a robot need not")
        )
    else:
        text = f"torch is there, {', '.join(missing)} missing: adapt, train or night end in the middle"
        findings.append(warn("training", text, how_to_install("train")))
    return findings


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
