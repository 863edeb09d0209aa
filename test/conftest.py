"""Shared by all tests: fixtures, what happens where an optional package is absent, and the list of skips at the end."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
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

TOGETHER = ("test/ros", "test/demo")
"""Folders whose tests one process takes, because they share a ROS graph, or so that two at most load the machine."""

APART = (
    "test/core/trainer/test_adaptation_gains.py",
    "test/package/test_docs.py::test_the_commands_of_a_page",
    "test/package/test_pythons.py::test_the_tests_of_node_and_demo",
    "test/package/test_pythons.py::test_what_a_robot_runs",
)
"""Long tests that share nothing with their file, so that another process may take them."""

LONGEST = (
    "test/ros",
    "test/package/test_pythons.py",
    "test/demo",
    "test/core/trainer/test_adaptation_gains.py",
    "test/core/adaptation/test_adapt.py",
    "test/package/test_build.py",
    "test/package/test_docs.py::test_the_commands_of_a_page",
    "test/tensorrt",
    "test/training/test_train_command.py",
    "test/training/test_own_classes.py",
    "test/training/test_export_static.py",
    "test/core/trainer",
    "test/core/uda",
)
"""What processes begin with that share the tests: if a long one came last, the others would wait for it."""


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
    take_signals()
    keep_bytecode()
    workers = getattr(config, "workerinput", {}).get("workercount")
    if workers:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


def take_signals() -> None:
    """Let commands that tests start meet signals as in a terminal: below `nohup` or a script's `&` they ignore some.

    A program hands on what it ignores, but no handler.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # the tests themselves go on without a terminal


def keep_bytecode() -> None:
    """Let the processes that tests start, and those that share the tests, compile a source file once.

    Where the variable is set, as in many containers, each of the hundreds would compile the package anew. Python keeps
    what it compiled beside the sources, and not in a folder of ours, where it would look for that of the installed
    packages too.
    """
    sys.dont_write_bytecode = False
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with what takes longest where several processes share the tests."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: next((n for n, name in enumerate(LONGEST) if item.nodeid.startswith(name)), 99))


if importlib.util.find_spec("xdist"):  # a ROS distribution lacks it
    from xdist.scheduler import LoadScopeScheduling

    class SharedOut(LoadScopeScheduling):
        """Which tests stay together where several processes share them: those of a file, whose fixtures they share.

        The marks of pytest-xdist would not do: since pytest 9.2 it does not find them (3.8.0), and says nothing.
        """

        def _split_scope(self, nodeid: str) -> str:
            if nodeid.startswith(APART):
                return nodeid
            file = nodeid.partition("::")[0]
            return next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)

        def remove_node(self, node: Any) -> str | None:
            """Hand on what a process that died has left, without the test in which it died: it would kill the next."""
            workload = self.assigned_work[node]
            crashed: str | None = None
            for name, unit in list(workload.items()):
                left = [nodeid for nodeid, completed in unit.items() if not completed]
                if left and crashed is None:
                    crashed = left.pop(0)
                    unit[crashed] = True
                if not left:
                    del workload[name]
            super().remove_node(node)
            return crashed

        def _reschedule(self, node: Any) -> None:
            """Give out until a process has two tests or no more come: with one alone it waits for its next for ever."""
            while not node.shutting_down and self._pending_of(self.assigned_work[node]) <= 2:
                super()._reschedule(node)

    @pytest.hookimpl(optionalhook=True)  # with `-p no:xdist` nobody calls it
    def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
        """Share the tests out in the order of collection; see `LONGEST`."""
        config.option.loadscopereorder = False
        return SharedOut(config, log)


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
def no_other_machine() -> Iterator[None]:
    """No test reaches another machine from this process; see test/support/no_network.py."""
    from no_network import ATTEMPTS, forbid_other_machines

    forbid_other_machines()
    yield
    forbid_other_machines(False)
    assert not ATTEMPTS


@pytest.fixture(scope="session", autouse=True)
def folders_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The cache and the home of the user's models are folders of the tests, also in the processes that they start.

    The back end `auto` leaves OpenVINO out there: it would compile every graph that a test opens, and time it for a
    second. The tests of OpenVINO name it, or ask for all.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HRDA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HRDA_MODELS", str(tmp_path_factory.mktemp("models")))
        patch.setenv("HRDA_AUTO", "tensorrt,cuda,onnx")
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
