"""Shared by all tests: fixtures, what happens where an optional package is absent, and the list of skips at the end."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

try:
    import hypothesis
except ImportError:  # a ROS distribution may lack it
    pass
else:
    # The default deadline of 200 ms is a timing: a busy machine would fail tests that hold.
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")

REPOSITORY = Path(__file__).resolve().parents[1]
# Helpers for tests are imported by their file name. (An own line, since pytest of Humble has no option `pythonpath`.)
sys.path.insert(0, str(REPOSITORY / "test" / "support"))

OPTIONAL = (
    "catkin_pkg",
    "hypothesis",
    "jsonargparse",
    "mcap",
    "onnx",
    "onnxruntime",
    "rclpy",
    "rosbags",
    "timm",
    "torch",
)
"""Packages that `make test` installs and a ROS distribution may lack: test files that import them are skipped there."""


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, None]:
    """A test file whose optional package is absent is skipped with the reason instead of being an error."""
    outcome = yield
    report = outcome.get_result()
    missing = re.search(r"ModuleNotFoundError: No module named '(\w+)", str(report.longrepr)) if report.failed else None
    if missing and missing.group(1) in OPTIONAL:
        report.outcome = "skipped"
        report.longrepr = (report.nodeid, 0, f"Skipped: the package {missing.group(1)} is not installed here")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List every skipped test with its reason, so that nobody takes a skip for a pass."""
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    terminalreporter.section("skipped, and why")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.line(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Counts of label files go to a folder of the tests, also in the processes that they start."""
    folder, before = tmp_path_factory.mktemp("cache"), os.environ.get("HRDA_CACHE")
    os.environ["HRDA_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["HRDA_CACHE"]
    else:
        os.environ["HRDA_CACHE"] = before


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of data and golden values that lies beside the developers' clones."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("the data folder ../shared is not on this machine")
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model bundle whose masks are known from the pixels; see test/support/tiny_bundle.py. Read it, never write."""
    pytest.importorskip("onnx")
    from tiny_bundle import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
