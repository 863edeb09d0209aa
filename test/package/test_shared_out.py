"""How several processes share the tests: those of a file stay together, and test/conftest.py names real tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def conftest(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip("xdist")
    return next(found for found in request.config.pluginmanager.get_plugins() if hasattr(found, "SharedOut"))


def test_tests_of_a_file_or_of_a_graph_go_to_one_process_and_long_ones_that_stand_alone_to_any(conftest: Any) -> None:
    scope = conftest.SharedOut._split_scope
    assert scope(None, "test/core/test_labels.py::test_a") == scope(None, "test/core/test_labels.py::test_b[x-y::z]")
    assert scope(None, "test/ros/masks/test_codec.py::test_a") == scope(None, "test/ros/space/test_tally.py::test_b")
    assert scope(None, "test/core/test_labels.py::test_a") != scope(None, "test/core/test_memory.py::test_a")
    for apart in conftest.APART:
        assert scope(None, f"{apart}::test_a") != scope(None, f"{apart}::test_b")


def test_pytest_xdist_asks_it_for_the_scheduler(conftest: Any, request: pytest.FixtureRequest) -> None:
    hooks = request.config.pluginmanager.hook.pytest_xdist_make_scheduler.get_hookimpls()
    assert conftest in [found.plugin for found in hooks]


def test_each_name_is_of_a_folder_a_file_or_a_test(conftest: Any, repository: Path) -> None:
    for name in (*conftest.TOGETHER, *conftest.APART, *conftest.LONGEST):
        place, _, function = name.partition("::")
        assert (repository / place).exists(), name
        assert f"def {function}" in ((repository / place).read_text("utf-8") if function else "def "), name


DEADLY = """
import os, time, pytest
@pytest.mark.parametrize("number", range(4))
def test_of_a_file(number):
    time.sleep(0.02)
    if number == int(os.environ["DEADLY"]) and __file__.endswith("_2.py"):
        os._exit(0)
"""


@pytest.mark.parametrize("number", range(4))
def test_a_process_that_dies_is_one_failure_and_the_others_take_the_rest(
    repository: Path, tmp_path: Path, number: int
) -> None:
    """Left to pytest-xdist 3.8.0 the test would kill each process that follows, and the last one wait for ever."""
    pytest.importorskip("xdist")
    for file in range(4):
        (tmp_path / f"test_{file}.py").write_text(DEADLY)
    command = [sys.executable, "-m", "pytest", "-n", "2", "--rootdir", str(tmp_path), "-p", "shared", str(tmp_path)]
    (tmp_path / "shared.py").write_text(
        f"import sys; sys.path.insert(0, {str(repository / 'test')!r})\n"
        "from conftest import SharedOut, pytest_xdist_make_scheduler\n"
    )
    environment = {**os.environ, "DEADLY": str(number), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "1 failed, 15 passed" in done.stdout
    assert f"crashed while running 'test_2.py::test_of_a_file[{number}]'" in done.stdout


IGNORED = """
import pathlib, re, subprocess, sys
def test_the_signals_that_a_command_ignores():
    shown = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
    ignored = int(re.search(r"SigIgn:\\s*(\\w+)", shown)[1], 16)
    assert not ignored & (1 << 0 | 1 << 1), hex(ignored)
"""


COMPILED = """
import importlib.util, pathlib, subprocess, sys
def test_what_a_command_imports_stays_compiled():
    subprocess.run([sys.executable, "-c", "import plain"], check=True)
    assert pathlib.Path(importlib.util.cache_from_source("plain.py")).exists()
"""


def outcomes(repository: Path, folder: Path, test: str, *launcher: str, **variables: str) -> list[int]:
    """Exit codes of pytest with a test: as our tests are configured, and without that."""
    (folder / "test_it.py").write_text(test)
    (folder / "nothing.py").write_text("")
    (folder / "plain.py").write_text(
        f"import sys; sys.path.insert(0, {str(repository / 'test')!r})\nfrom conftest import pytest_configure\n"
    )
    codes = []
    for plugin in ("nothing", "plain"):
        words = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(folder), "-p", plugin, str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(folder), **variables}
        done = subprocess.run(
            [*launcher, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        codes.append(done.returncode)
    return codes


def test_commands_of_the_tests_ignore_no_signal_below_nohup_and_in_the_background_of_a_script(
    repository: Path, tmp_path: Path
) -> None:
    in_background = ["sh", "-c", '"$@" & wait $!', "sh", "nohup"]
    assert outcomes(repository, tmp_path, IGNORED, *in_background) == [1, 0]


def test_commands_of_the_tests_compile_a_file_once_where_python_is_told_to_keep_nothing(
    repository: Path, tmp_path: Path
) -> None:
    assert outcomes(repository, tmp_path, COMPILED, PYTHONDONTWRITEBYTECODE="1") == [1, 0]
