"""tools/setup_venv.py and the Makefile: a missing prerequisite is one sentence, a set-up resumes and happens once."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pythons import one_sentence, script, stand_in, tool_module


@pytest.fixture
def tool(monkeypatch):
    """The script as a module."""
    module = tool_module("setup_venv")
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    return module


@pytest.fixture
def tree(tmp_path):
    """A folder that looks like the project to the script."""
    (tmp_path / "setup.py").write_text("from setuptools import setup\n")
    (tmp_path / "constraints.txt").write_text("numpy==2.0\n")
    return tmp_path


@pytest.fixture
def profile(tool):
    return tool.Profile(".venv-demo", "runtime,ros", 0.0, "a moment", "os")


# Prerequisites


def test_it_runs_where_python_does_not_look_beside_a_script(repository):
    command = [sys.executable, repository / "tools" / "setup_venv.py", "--help"]
    done = subprocess.run(command, env={**os.environ, "PYTHONSAFEPATH": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_python_at_all_is_one_sentence(repository, tool, tmp_path):
    for name in ("sh", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        [repository / "tools" / "in_venv", "demo"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert one_sentence(done.stderr)
    assert f"install Python {tool_module('interpreters').listed(tool.PYTHONS)}" in done.stderr


def test_in_venv_starts_with_any_python_of_the_path(repository, tool):
    text = (repository / "tools" / "in_venv").read_text(encoding="utf-8")
    tried = re.search(r"^for python in (.*); do$", text, re.MULTILINE).group(1).split()
    assert set(tried) == {'"${PYTHON:-}"', "python3", "python", *(f"python{version}" for version in tool.PYTHONS)}


@pytest.mark.parametrize(("system", "machine"), [("Linux", "aarch64"), ("Darwin", "arm64"), ("Windows", "AMD64")])
def test_other_platforms_are_one_sentence(tool, monkeypatch, system, machine):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(tool.SetupError, match=f"this is {system} on {machine}.*colcon build"):
        tool.check_platform()


@pytest.mark.parametrize("libc", [("", ""), ("glibc", "2.27")])
def test_other_c_libraries_are_one_sentence(tool, monkeypatch, libc):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    with pytest.raises(tool.SetupError, match=r"need glibc 2\.28"):
        tool.check_platform()


def test_full_disk_is_found_before_the_download(tool, tmp_path):
    with pytest.raises(tool.SetupError, match="GB free and the set-up needs 1e\\+09 GB; make room"):
        tool.check_disk(tmp_path, 1e9)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("WARNING: Retrying ... NewConnectionError('...')\nERROR: No matching distribution found for x", "network"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        ("Collecting x\nERROR: ResolutionImpossible: for help visit ...", "ResolutionImpossible"),
        ("", "no output"),
    ],
)
def test_failures_of_pip_are_one_sentence(tool, tmp_path, output, expected):
    sentence = tool.explain(output, tmp_path / "log")
    assert expected in sentence
    assert one_sentence(sentence)


def test_a_missing_prerequisite_ends_with_status_2(tool, monkeypatch, tree, capsys):
    def refuse():
        raise tool.SetupError("something is missing; do this")

    monkeypatch.setattr(tool, "ROOT", tree)
    monkeypatch.setattr(tool, "check_platform", refuse)
    assert tool.main(["demo", "--", "true"]) == 2
    assert capsys.readouterr().err == "error: something is missing; do this\n"


# Set-up, stamp, resume


def fake_venv(venv: Path, pip_exit: int = 0, version: str = "3.11", prefix: str = "/usr") -> None:
    """A stand-in for the environment's Python: says which one it is, plays pip, runs nothing."""
    answer = f"printf '%s\\n' {version} {prefix}/bin/python{version} {prefix}"
    text = f'case "$*" in *"-m pip"*) echo "Collecting x"; exit {pip_exit};; *base_prefix*) {answer};; esac'
    script(venv / "bin" / "python", text)
    script(venv / "bin" / "pip", f"exec {venv}/bin/python -m pip")


@pytest.fixture
def counted(tool, monkeypatch):
    """The tool with a quick, counted set-up."""
    runs = []

    def set_up(profile, root, venv, wanted):
        runs.append(venv)
        fake_venv(venv)

    monkeypatch.setattr(tool, "check_platform", lambda: None)
    monkeypatch.setattr(tool, "set_up", set_up)
    return runs


def test_a_finished_set_up_is_not_repeated(tool, tree, profile, counted):
    assert tool.ensure(profile, tree) == tree / ".venv-demo"
    tool.ensure(profile, tree)
    assert len(counted) == 1


@pytest.mark.parametrize("name", ["setup.py", "constraints.txt"])
def test_changed_requirements_renew_the_environment(tool, tree, profile, counted, name):
    tool.ensure(profile, tree)
    (tree / name).write_text("# changed\n")
    tool.ensure(profile, tree)
    assert len(counted) == 2


def test_touched_files_do_not_renew_it(tool, tree, profile, counted):
    tool.ensure(profile, tree)
    os.utime(tree / "setup.py", (0, 0))
    tool.ensure(profile, tree)
    assert len(counted) == 1


def test_a_moved_tree_is_set_up_again(tool, tree, profile, counted):
    tool.ensure(profile, tree)
    moved = tree.rename(tree.with_name("moved"))
    tool.ensure(profile, moved)
    assert len(counted) == 2
    moved.rename(tree)


def test_an_interrupted_set_up_leaves_no_stamp_and_keeps_the_environment(tool, tree, profile, monkeypatch):
    monkeypatch.setattr(tool, "check_platform", lambda: None)
    fake_venv(tree / ".venv-demo", pip_exit=1)
    with pytest.raises(tool.SetupError, match="pip failed"):
        tool.ensure(profile, tree)
    assert not (tree / ".venv-demo" / tool.STAMP).exists()
    fake_venv(tree / ".venv-demo", pip_exit=0)
    monkeypatch.setattr(tool, "create_venv", lambda *_: pytest.fail("the environment is there already"))
    tool.ensure(profile, tree)
    assert (tree / ".venv-demo" / tool.STAMP).exists()


def test_a_copied_environment_is_made_anew(tool, tree):
    fake_venv(tree / "first" / ".venv")
    assert tool.usable(tree / "first" / ".venv").version == "3.11"
    shutil.copytree(tree / "first", tree / "second")
    assert tool.usable(tree / "second" / ".venv") is None


def test_an_environment_of_a_version_without_wheels_is_made_anew(tool, tree):
    fake_venv(tree / ".venv", version="3.9")
    assert tool.usable(tree / ".venv") is None


@pytest.fixture
def made(tool, tree, profile, monkeypatch):
    """The tool with an environment of Python 3.11 that is ready; the list holds what later ones are made with."""
    calls = []

    def create(python, venv):
        calls.append(python.version)
        fake_venv(venv, version=python.version, prefix=python.prefix)

    monkeypatch.setattr(tool, "check_platform", lambda: None)
    monkeypatch.setattr(tool, "check_venv_module", lambda python: None)
    monkeypatch.setattr(tool, "create_venv", create)
    monkeypatch.delenv("PYTHON", raising=False)
    fake_venv(tree / ".venv-demo")
    tool.ensure(profile, tree)
    return calls


def test_an_environment_of_another_python_than_the_named_is_made_anew(tool, tree, profile, made, monkeypatch, capsys):
    python = stand_in(tree / "opt" / "bin" / "python3.12", "3.12")
    monkeypatch.setenv("PYTHON", str(python))
    tool.ensure(profile, tree)
    assert made == ["3.12"]
    sentence = f"is of Python 3.11 (/usr/bin/python3.11), PYTHON names Python 3.12 ({python}): it is made anew"
    assert f".venv-demo {sentence}\n" in capsys.readouterr().out
    tool.ensure(profile, tree)
    assert made == ["3.12"]


def test_the_same_version_from_another_place_is_another_python(tool, tree, profile, made, monkeypatch):
    monkeypatch.setenv("PYTHON", str(stand_in(tree / "opt" / "bin" / "python3.11", "3.11")))
    tool.ensure(profile, tree)
    assert made == ["3.11"]


def test_without_a_named_python_an_environment_keeps_its_own(tool, tree, profile, made, monkeypatch):
    monkeypatch.setattr(tool, "find_python", lambda: pytest.fail("the environment is there already"))
    (tree / "setup.py").write_text("# changed\n")
    tool.ensure(profile, tree)
    assert made == []


def test_a_failed_renewal_takes_the_old_stamp_away(tool, tree, profile, monkeypatch):
    monkeypatch.setattr(tool, "check_platform", lambda: None)
    fake_venv(tree / ".venv-demo")
    tool.ensure(profile, tree)
    (tree / "setup.py").write_text("# changed\n")
    fake_venv(tree / ".venv-demo", pip_exit=1)
    with pytest.raises(tool.SetupError, match="pip failed"):
        tool.ensure(profile, tree)
    assert not (tree / ".venv-demo" / tool.STAMP).exists()


def test_half_written_packages_are_found(tool, tree, profile):
    script(tree / ".venv-demo" / "bin" / "python", 'echo "ImportError: no cv2"; exit 1')
    with pytest.raises(tool.SetupError, match=r"no cv2.*remove the folder \.venv-demo"):
        tool.check_imports(profile, tree / ".venv-demo")


def test_ctrl_c_ends_with_130_and_stops_pip(tool, tree, monkeypatch, capsys):
    def interrupted(profile, root):
        raise KeyboardInterrupt

    monkeypatch.setattr(tool, "ensure", interrupted)
    assert tool.main(["demo"]) == 130
    assert "goes on from here" in capsys.readouterr().err


# The command


def test_a_sourced_distribution_is_mentioned(tool, monkeypatch, capsys):
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    tool.tell_about_ros_distribution()
    shown = capsys.readouterr().out
    assert "'jazzy'" in shown
    assert "colcon build" in shown


def test_an_unknown_program_is_one_sentence(tool, tmp_path, capsys):
    assert tool.run(["no-such-program"], tmp_path) == 2
    assert one_sentence(capsys.readouterr().err)


# The Makefile


@pytest.fixture(scope="module")
def makefile(repository) -> str:
    if shutil.which("make") is None:
        pytest.skip("make is not installed here")
    return (repository / "Makefile").read_text(encoding="utf-8")


def test_make_help_lists_the_targets_and_the_order_of_pythons(repository, makefile, tool):
    shown = subprocess.run(["make", "help"], cwd=repository, check=True, capture_output=True, text=True).stdout
    for target in ("demo", "test", "lint", "bench", "clean"):
        assert f"make {target}" in shown
    assert f"PYTHON=... names, else the first found of {', '.join(tool.PYTHONS)}." in shown


def dry_run(repository: Path, *arguments: str) -> str:
    # Called from `make test`, the inner make would inherit the outer one's flags and announce folders.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    command = ["make", "--no-print-directory", "--dry-run", *arguments]
    done = subprocess.run(command, cwd=repository, env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def test_make_demo_passes_arguments_on(repository, makefile):
    shown = dry_run(repository, "demo", "DEMO_ARGS=--max-frames 5")
    assert "python demo/run_demo.py --out demo_output --max-frames 5" in shown


def test_make_test_lints_first_and_ends_with_pytest(repository, makefile):
    lines = dry_run(repository, "test").splitlines()
    programs = [line.split(" -- ", 1)[1].split()[0] for line in lines]
    assert programs == ["ruff", "ruff", "mypy", "lint-imports", "python"]
    assert "-m pytest" in lines[-1]


def test_ci_calls_make_test_and_nothing_hidden(repository):
    lines = (repository / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith("#")]
    assert commands[:2] == ["set -euo pipefail", 'cd "$(dirname "$0")/.."']
    # The browser comes while the environment is set up, and is there before the first test.
    assert commands[2:] == ["tools/browser_for_tests &", "tools/in_venv test -- true", "wait $!", "make test"]
