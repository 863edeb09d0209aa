"""Which Pythons this machine has, and which of them a new environment gets; for tools/setup_venv.py.

Any Python from 3.8 on runs this file. Programs are asked in an environment without what a ROS distribution or another
Python put there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PYTHONS = ("3.11", "3.12", "3.13", "3.10", "3.14")
"""Versions that all packages have wheels for, in the order in which they are taken. CI runs every test on the first and
the demo on all but the last, which nobody here has run yet; 3.10 has older pins of its own."""

FOREIGN_VARIABLES = (
    # Python's own search paths.
    "PYTHONHOME",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    # A sourced ROS distribution: its libraries and messages must not mix with the wheels.
    "AMENT_CURRENT_PREFIX",
    "AMENT_PREFIX_PATH",
    "CMAKE_PREFIX_PATH",
    "COLCON_PREFIX_PATH",
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "LD_LIBRARY_PATH",
    "RMW_IMPLEMENTATION",
    "ROS_DISTRO",
    "ROS_PYTHON_VERSION",
    "ROS_VERSION",
    # The wheels' start-up guard, inherited from a Python of another environment.
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)

WHICH_PYTHON = """
import sys
version = '%d.%d' % sys.version_info[:2]
inside = sys.prefix != sys.base_prefix
print(version)
print(sys.base_prefix + '/bin/python' + version if inside else sys.executable)
print(sys.base_prefix)
"""
"""What an interpreter is asked: the fields of `Interpreter`."""


@dataclass(frozen=True)
class Interpreter:
    """A Python outside of any virtual environment: version "3.12", the program, and where it is installed."""

    version: str
    program: str
    prefix: str

    def __str__(self) -> str:
        return f"Python {self.version} ({self.program})"


class SetupError(Exception):
    """Something that the set-up needs is missing; the text is one sentence that says what to do."""


def named_python() -> Interpreter | None:
    """The interpreter that the variable PYTHON names; None where it is not set."""
    name = os.environ.get("PYTHON")
    if not name:
        return None
    found = ask(name)
    if found is None:
        raise SetupError(f"PYTHON={name} is no Python that runs; name one of {listed(PYTHONS)}, or leave PYTHON out")
    if found.version not in PYTHONS:
        raise SetupError(
            f"PYTHON={name} is Python {found.version}, and the wheels exist for {listed(PYTHONS)}; name one of these, "
            f"or leave PYTHON out"
        )
    return found


def find_python() -> Interpreter:
    """The first of `PYTHONS` that there is."""
    found = found_pythons()
    fit = [python for version in PYTHONS for python in found if python.version == version]
    if fit:
        # Debian keeps `venv` in a package of its own; where nobody has it, the first is named in the complaint.
        return next((python for python in fit if has_venv(python)), fit[0])
    seen = ", ".join(sorted({python.version for python in found})) or "none"
    raise SetupError(
        f"Python {listed(PYTHONS)} is needed, and the versions found are: {seen}; install one (Debian, Ubuntu: sudo "
        f"apt install python3 python3-venv; elsewhere: pyenv install 3.12) or name it by PYTHON=/path/to/it"
    )


def found_pythons() -> list[Interpreter]:
    """All that are found: the running one, on the PATH, in pyenv."""
    names = [sys.executable, "python3", *(f"python{version}" for version in PYTHONS)]
    pyenv = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))
    answers = [ask(name) for name in [*names, *map(str, pyenv)]]
    return [python for python in answers if python is not None]


def ask(python: str) -> Interpreter | None:
    """Which interpreter stands behind a program, which may be of a virtual environment; None = it does not run."""
    lines = (capture([python, "-c", WHICH_PYTHON]) or "").splitlines()
    return Interpreter(*lines) if len(lines) == 3 else None


def same_python(one: Interpreter | None, other: Interpreter) -> bool:
    """Whether two are the same installation, by whatever name it was called."""
    if one is None or one.version != other.version:
        return False
    return Path(one.prefix).resolve() == Path(other.prefix).resolve()


def listed(versions: tuple[str, ...]) -> str:
    """The versions in ascending order, for a sentence."""
    *first, last = sorted(versions)
    return f"{', '.join(first)} or {last}"


def has_venv(python: Interpreter) -> bool:
    """Whether an environment with pip can be made."""
    return capture([python.program, "-c", "import venv, ensurepip, ssl; print('ok')"]) is not None


def check_venv_module(python: Interpreter) -> None:
    """Debian keeps `venv` and `ensurepip` in a package of their own."""
    if not has_venv(python):
        raise SetupError(
            f"{python.program} lacks the module venv, ensurepip or ssl; install them (Debian, Ubuntu: sudo apt install "
            f"python{python.version}-venv) and run the same command again"
        )


def clean_environment(venv: Path | None = None) -> dict[str, str]:
    """This process's environment without what a ROS distribution or another Python put there; `venv` goes first."""
    values = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    path = [
        entry
        for entry in os.environ.get("PATH", os.defpath).split(os.pathsep)
        if not any(Path(entry) == Path(prefix, "bin") for prefix in prefixes)
    ]
    if venv is not None:
        path.insert(0, str(venv / "bin"))
        values["VIRTUAL_ENV"] = str(venv)
    values["PATH"] = os.pathsep.join(path)
    return values


def capture(command: list[str]) -> str | None:
    """Standard output of a short command; None if it cannot be run or fails."""
    try:
        done = subprocess.run(
            command,
            env=clean_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
