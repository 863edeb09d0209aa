"""tools/mutate.py: the list of faults fits the tree, and the command says of each what tests say."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

WORKS = "def largest(values):\n    return max(values)\n\n\ndef first(values):\n    return values[0]\n"
TESTS = "from works import largest\n\n\ndef test_the_largest():\n    assert largest([1, 3, 2]) == 3\n"
HANGS = "import time\n\n\ndef test_hangs():\n    open('begun', 'w').close()\n    time.sleep(600)\n"


@pytest.fixture
def tool(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module; under a name in sys.modules, since dataclasses look there."""
    spec = importlib.util.spec_from_file_location("mutate", repository / "tools" / "mutate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mutate", module)
    spec.loader.exec_module(module)
    return module


def test_every_fault_of_the_list_still_applies_and_its_tests_are_there(repository: Path, tool: ModuleType) -> None:
    faults = tool.read_faults(tool.FAULTS)
    assert len(faults) >= 200
    assert [f"{fault}: {reason}" for fault in faults for reason in tool.stale_reasons(fault, repository)] == []
    assert len(set(faults)) == len(faults)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"old": "sum(values)"}, "the old text was found 0 times"),
        ({"old": "values"}, "the old text was found 4 times"),
        ({"new": "max(values)"}, "the new text is the old one"),
        ({"new": "max(values"}, "with the fault it is no Python"),
        ({"file": "gone.py"}, "there is no such file"),
        ({"tests": ("test_works.py::test_the_smallest",)}, "there is no test 'test_works.py::test_the_smallest'"),
        ({"tests": ("test_gone.py",)}, "there is no test 'test_gone.py'"),
        ({"tests": ()}, "it names no tests"),
    ],
)
def test_a_fault_that_no_longer_applies_is_stale(
    tmp_path: Path, tool: ModuleType, changes: dict[str, object], reason: str
) -> None:
    (tmp_path / "works.py").write_text(WORKS)
    (tmp_path / "test_works.py").write_text(TESTS)
    fault = {
        "file": "works.py",
        "old": "max(values)",
        "new": "min(values)",
        "hurts": "it hurts",
        "tests": ("test_works.py::test_the_largest[any]",),
    }
    assert tool.stale_reasons(tool.Fault(**fault), tmp_path) == []
    found = tool.stale_reasons(tool.Fault(**{**fault, **changes}), tmp_path)
    assert len(found) == 1
    assert found[0].startswith(reason)


def _tree(folder: Path, repository: Path, faults: str, tests: str = TESTS) -> list[str]:
    """A source tree of its own with the tool in it; returns the command, which loads no large package.

    The command has imported what is to be changed, as the tool itself has some of `hrda_core`.
    """
    if shutil.which("git") is None:
        pytest.skip("git is not installed here")
    (folder / "tools").mkdir(parents=True)
    (folder / "tools/mutate.py").write_text((repository / "tools/mutate.py").read_text())
    (folder / "tools/faults.yaml").write_text(faults)
    (folder / "works.py").write_text(WORKS)
    (folder / "test_works.py").write_text(tests)
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    run = "import sys; sys.path[:0] = ['.', 'tools']; import mutate, works; mutate.PRELOADED = ()"
    return [sys.executable, "-B", "-c", f"{run}; sys.exit(mutate.main([]))"]


def _fault(old: str, new: str, test: str = "test_works.py::test_the_largest") -> str:
    return f"- {{file: works.py, old: '{old}', new: '{new}', hurts: '{new} is wrong', tests: ['{test}']}}\n"


def _environment(tmp_path: Path) -> dict[str, str]:
    """Copies are made below `tmp_path`."""
    return {**os.environ, "TMPDIR": str(tmp_path)}


def _run(command: list[str], tmp_path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=tmp_path / "tree", env=_environment(tmp_path), capture_output=True, text=True, check=False
    )


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_fault_that_a_test_catches_is_killed_and_another_survives(tmp_path: Path, repository: Path) -> None:
    faults = _fault("max(values)", "min(values)") + _fault("values[0]", "values[-1]")
    command = _tree(tmp_path / "tree", repository, faults)
    before = _content(tmp_path / "tree")

    done = _run(command, tmp_path)

    assert done.returncode == 1, done.stderr
    killed, survived, summary = done.stdout.splitlines()
    assert killed.startswith("killed    works.py: min(values) is wrong (")
    assert survived.startswith("survived  works.py: values[-1] is wrong (")
    assert summary == "1 of 2 faults were killed, 1 survived"
    assert _content(tmp_path / "tree") == before
    assert [path.name for path in tmp_path.iterdir()] == ["tree"], "the copy was not removed"


@pytest.mark.parametrize(
    ("faults", "tests", "said"),
    [
        (_fault("min(values)", "max(values)"), TESTS, "stale     works.py: max(values) is wrong"),
        (
            _fault("max(values)", "min(values)"),
            TESTS.replace("== 3", "== 4"),
            "without any fault the tests do not pass",
        ),
        (
            _fault("max(values)", "min(values)"),
            TESTS.replace("def", "import pytest\n@pytest.mark.skip\ndef"),
            "skipped",
        ),
    ],
    ids=["stale", "fails anyway", "skipped"],
)
def test_nothing_is_said_where_nothing_can_be_said(
    tmp_path: Path, repository: Path, faults: str, tests: str, said: str
) -> None:
    command = _tree(tmp_path / "tree", repository, faults, tests)
    done = _run(command, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, repository: Path) -> None:
    command = _tree(tmp_path / "tree", repository, _fault("max(values)", "min(values)", "test_works.py"), HANGS)
    child = subprocess.Popen(
        command, cwd=tmp_path / "tree", env=_environment(tmp_path), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("hrda_mutate_*/tree/begun")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=30)
    assert (child.returncode, said) == (130, "interrupted: the copy was removed\n")
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]
