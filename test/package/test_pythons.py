"""`make demo` on the Pythons that people have, and the tests with the library versions of the ROS distributions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pythons import make_stack, python_of, run_tests, tool_module

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1200)]

OTHERS = [version for version in tool_module("interpreters").PYTHONS if version != "{}.{}".format(*sys.version_info)]
OF_THE_DEMO = (
    "Makefile", "setup.py", "setup.cfg", "pyproject.toml", "constraints.txt", "package.xml", "LICENSE", "NOTICE",
    "resource", "tools", "hrda_core", "hrda_ros", "training", "launch", "config", "models", "demo",
)  # fmt: skip
FRAMES = 8
WITHOUT_RCLPY = (
    "test/core/messages",
    "test/core/inference",
    "test/core/bench",
    "test/core/data/scan",
    "test/core/data/recordings/test_recordings.py",
    "test/core/data/recordings/test_recording_frames.py",
    *(f"test/core/test_{name}.py" for name in ("labels", "libraries", "machine", "memory", "resizing", "window_plan")),
    "test/ros",
    "test/demo",
)


@pytest.fixture(scope="module")
def tree(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of what the demo needs, without an environment."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed here")
    folder = tmp_path_factory.mktemp("clone")
    for name in OF_THE_DEMO:
        source = repository / name
        if source.is_dir():
            # What other processes of the tests compile comes and goes there.
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("version", OTHERS)
def test_make_demo_runs_on_another_python(tree: Path, version: str) -> None:
    python = python_of(version)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTHON"))}
    done = subprocess.run(
        ["make", "demo", f"DEMO_ARGS=--max-frames {FRAMES}"],
        cwd=tree,
        # No bytecode for all packages: the demo imports a tenth of it.
        env={**inherited, "PYTHON": python, "PIP_NO_COMPILE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert f".venv-demo with Python {version} ({python})" in done.stdout
    assert f"{FRAMES}/{FRAMES} frames played" in done.stdout
    assert json.loads((tree / "demo_output" / "summary.json").read_text(encoding="utf-8"))["passed"]


@pytest.fixture(scope="module")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The environment of a file of test/stacks."""
    folder = make_stack(*request.param, tmp_path_factory.mktemp("stack") / request.param[0])
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("stack", [("jazzy", "3.12")], ids=["jazzy"], indirect=True)
def test_the_tests_of_node_and_demo_pass_on_jazzy(stack: Path, tmp_path: Path) -> None:
    # Left out for their time: random messages, whose decoding runs on Humble's libraries, and signals to the demo.
    left_out = [f"--ignore=test/ros/test_{name}.py" for name in ("random_messages", "reload_under_load")]
    files = ["test/ros", "test/demo/test_run_demo.py", "test/core/messages"]
    outcome = run_tests(stack, tmp_path / "report.xml", *files, *left_out, "-k", "not stop_signal and not killed_demo")
    assert outcome.failed == 0, outcome.output
    assert outcome.passed > 250, outcome.output
    # test_predict_identity needs torch, and animated pictures are made by Pillow.
    assert outcome.reasons <= {"collection skipped", "could not import 'PIL.Image': No module named 'PIL'"}, (
        outcome.output
    )


@pytest.mark.parametrize("stack", [("humble", "3.10")], ids=["humble"], indirect=True)
def test_what_a_robot_runs_without_rclpy_passes_with_the_libraries_of_humble(stack: Path, tmp_path: Path) -> None:
    outcome = run_tests(stack, tmp_path / "report.xml", *WITHOUT_RCLPY, "-m", "not heavy")
    assert outcome.failed == 0, outcome.output
    assert outcome.passed > 900, outcome.output
