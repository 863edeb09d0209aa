"""Other Pythons of this machine, environments with the library versions of a ROS distribution, and tests in them."""

from __future__ import annotations

import importlib
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

__all__ = ["Outcome", "make_stack", "one_sentence", "python_of", "run_tests", "script", "stand_in", "tool_module"]

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = {"hrda_core": "hrda_core", "hrda_ros": "hrda_ros", "hrda_training": "training"}


def tool_module(name: str) -> ModuleType:
    """A file of the folder tools as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "tools"))
        return importlib.import_module(name)


def script(path: Path, text: str) -> Path:
    """A program for sh."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def stand_in(path: Path, version: str, venv: bool = True) -> Path:
    """A stand-in for a Python: it answers which one it is, and whether it can make environments."""
    answer = f"printf '%s\\n' {version} {path} {path.parent.parent}"
    return script(path, f'case "$*" in *base_prefix*) {answer};; *ensurepip*) exit {0 if venv else 1};; esac')


def one_sentence(text: str) -> bool:
    """Whether a user sees one line, and no traceback."""
    return "\n" not in text.strip() and "Traceback" not in text


def python_of(version: str) -> str:
    """The program of an installed Python that can make environments; without one the test is skipped.

    Args:
        version: "3.12".
    """
    tool = tool_module("interpreters")
    for python in tool.found_pythons():
        if python.version == version and tool.has_venv(python):
            return str(python.program)
    pytest.skip(f"Python {version} with its venv module is not installed here")


def make_stack(name: str, version: str, folder: Path) -> Path:
    """An environment with exactly the packages of test/stacks/NAME.txt, and this source tree linked into it.

    Returns:
        the folder of the environment.
    """
    requirements = REPOSITORY / "test" / "stacks" / f"{name}.txt"
    call([python_of(version), "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "-q"]
    # No bytecode: half of the time, and most modules are never imported. Without isolation a source package is built
    # with the setuptools of its time.
    call([*pip, "setuptools<80", "wheel"])
    call([*pip, "--no-compile", "--no-build-isolation", "-r", str(requirements)])
    (site,) = folder.glob("lib/python*/site-packages")
    for package, source in PACKAGES.items():
        (site / package).symlink_to(REPOSITORY / source)
    return folder


def call(command: list[str]) -> str:
    """Standard output of a command in an environment without what this Python put there."""
    done = subprocess.run(
        command, env=tool_module("interpreters").clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@dataclass(frozen=True)
class Outcome:
    """What pytest found: numbers of tests, the reasons of those that were skipped, and what it printed."""

    passed: int
    failed: int
    reasons: frozenset[str]
    output: str


def run_tests(venv: Path, report: Path, *arguments: str, timeout_s: float = 900.0) -> Outcome:
    """Run pytest of an environment on this source tree.

    Args:
        report: file for the results as XML.
        arguments: behind `pytest`.
    """
    command = [str(venv / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    environment = tool_module("interpreters").clean_environment(venv)
    # What the tests start again and again is compiled once, and not beside the sources.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PYTHONPYCACHEPREFIX"] = str(venv / "bytecode")
    done = subprocess.run(
        [*command, *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert report.is_file(), done.stdout[-4000:]
    suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    total, failed = int(suite.attrib["tests"]), int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    reasons = frozenset(entry.attrib["message"].removeprefix("Skipped: ") for entry in suite.iter("skipped"))
    return Outcome(total - failed - int(suite.attrib["skipped"]), failed, reasons, done.stdout[-6000:])
