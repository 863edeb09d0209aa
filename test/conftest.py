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
    "PIL",
    "catkin_pkg",
    "hypothesis",
    "jsonargparse",
    "mcap",
    "onnx",
    "onnxruntime",
    "rclpy",
    "rosbags",
    "safetensors",
    "timm",
    "torch",
)
"""Packages that `make test` installs and a ROS distribution may lack: test files that import them are skipped there."""

WITH_DDS = ("test_build.py", "test_launch_file.py", "test_pythons.py", "test_robot_blocks.py")
"""Test files outside of test/ros and test/demo whose tests join a ROS graph."""


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, None]:
    """A test file whose optional package is absent is skipped with the reason instead of being an error."""
    outcome = yield
    report = outcome.get_result()
    missing = re.search(r"ModuleNotFoundError: No module named '(\w+)", str(report.longrepr)) if report.failed else None
    if missing and missing.group(1) in OPTIONAL:
        report.outcome = "skipped"
        report.longrepr = (report.nodeid, 0, f"Skipped: the package {missing.group(1)} is not installed here")


def pytest_configure(config: pytest.Config) -> None:
    """Several test processes share the cores out; threads beyond the cores cost several times their gain."""
    workers = getattr(config, "workerinput", {}).get("workercount")
    if workers:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests stay together where several processes share them (pytest-xdist).

    Tests with real DDS take turns, since two graphs at once could draw the same domain. The others stay with their
    file, whose fixtures they share, unless they are marked to stand alone.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") or item.get_closest_marker("alone"):
            continue
        path = Path(str(item.fspath)).relative_to(REPOSITORY)  # pytest of Humble has no `item.path`
        if path.is_relative_to("test/ros") or path.is_relative_to("test/demo") or path.name in WITH_DDS:
            item.add_marker(pytest.mark.xdist_group("dds"))
        else:
            item.add_marker(pytest.mark.xdist_group(str(path)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have counted, and every skipped test with its reason, so that nobody takes a skip for a pass."""
    for report in terminalreporter.stats.get("passed", []):
        for name, text in report.user_properties:
            terminalreporter.section(name)
            terminalreporter.line(str(text))
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    terminalreporter.section("skipped, and why")
    for report in skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.line(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="session", autouse=True)
def folders_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The cache and the home of the user's models are folders of the tests, also in the processes that they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HRDA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HRDA_MODELS", str(tmp_path_factory.mktemp("models")))
        yield


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
