"""Check the tests: put one fault after the other into a copy of the source tree, and see whether tests catch it.

    .venv/bin/python tools/mutate.py                       all faults of tools/faults.yaml
    .venv/bin/python tools/mutate.py class_mix teacher     those whose file or harm contains one of these words
    .venv/bin/python tools/mutate.py --list                the list alone; nothing runs

Each fault changes one place of one file, and names the tests that must fail then; only these run. The files of the
working tree as they lie there are copied into a temporary folder, faults are written into the copy alone, and the
folder goes at the end and on an interruption. Before any fault, all named tests must pass in the copy.

A fault is `killed` when a test fails or hangs, and it has `survived` when its tests pass: then a test is missing. It is
`stale` when it no longer applies: the old text is not there exactly once, or a test has gone. Then the list is to be
mended, and nothing runs. Exit status: 0 all killed, 1 something survived, 2 nothing could be said, 130 interrupted.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import FrameType
from typing import NoReturn

import yaml

from hrda_core.standard_streams import with_streams

ROOT = Path(__file__).resolve().parents[1]
FAULTS = ROOT / "tools" / "faults.yaml"
TIME_LIMIT_S = 120.0
"""A fault whose tests run longer hangs them, which counts as caught."""

PRELOADED = ("torch", "torchvision", "timm", "cv2", "onnx", "onnxruntime", "hypothesis", "pytest")


class MutateError(Exception):
    """Nothing can be said about the tests; the text is one sentence for the user."""


@dataclass(frozen=True)
class Fault:
    """One entry of the list.

    Attributes:
        file: path below the root of the source tree.
        old: text that occurs once in the file.
        new: what stands there instead.
        hurts: what a user would suffer.
        tests: identifiers of tests for pytest, at least one of which must fail.
    """

    file: str
    old: str
    new: str
    hurts: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.hurts}"


def read_faults(path: Path) -> list[Fault]:
    """Read the list.

    Raises:
        MutateError: an entry is not made of the five fields, or its tests are no list.
    """
    names = {field.name for field in fields(Fault)}
    faults = []
    for number, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), start=1):
        if not isinstance(entry, dict) or set(entry) != names or not isinstance(entry["tests"], list):
            raise MutateError(f"entry {number} of '{path}' needs {', '.join(sorted(names))}, tests as a list")
        faults.append(Fault(**{**{name: str(value) for name, value in entry.items()}, "tests": tuple(entry["tests"])}))
    return faults


def stale_reasons(fault: Fault, root: Path) -> list[str]:
    """Say why a fault does not apply to the source tree; nothing where it does."""
    path = root / fault.file
    if not path.is_file():
        return ["there is no such file"]
    text = path.read_text(encoding="utf-8")
    reasons = []
    if (found := text.count(fault.old)) != 1:
        reasons.append(f"the old text was found {found} times, expected once: {fault.old!r}")
    if fault.new == fault.old:
        reasons.append(f"the new text is the old one: {fault.old!r}")
    if path.suffix == ".py" and not reasons:
        try:
            ast.parse(text.replace(fault.old, fault.new), fault.file)
        except SyntaxError as error:
            reasons.append(f"with the fault it is no Python: {error.msg} in line {error.lineno}")
    if not fault.tests:
        reasons.append("it names no tests")
    return reasons + [f"there is no test '{test}'" for test in fault.tests if not _has_test(test, root)]


def _has_test(test: str, root: Path) -> bool:
    path, *names = test.partition("[")[0].split("::")
    return (root / path).is_file() and set(names) <= _names(root / path)


@cache
def _names(path: Path) -> set[str]:
    """Functions and classes of a file; many entries name tests of the same one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@contextmanager
def scratch_copy(root: Path) -> Iterator[Path]:
    """Copy the files that git knows, or would add, as they lie there; the copy is removed at the end.

    Beside it lies what tests look for beside the source tree, and the name under which `training/` is imported.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    )
    with tempfile.TemporaryDirectory(prefix="hrda_mutate_") as folder:
        tree = Path(folder) / "tree"
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (root / name).is_file():  # a file that was removed and not yet committed is listed too
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, tree / name)
        (Path(folder) / "imports").mkdir()
        (Path(folder) / "imports" / "hrda_training").symlink_to(tree / "training")
        if (root.parent / "shared").is_dir():
            (Path(folder) / "shared").symlink_to((root.parent / "shared").resolve())
        yield tree


@contextmanager
def applied(fault: Fault, tree: Path) -> Iterator[None]:
    """Write the fault into the copy, and take it out again."""
    path = tree / fault.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    _forget_compiled(path)
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")
        _forget_compiled(path)


def _forget_compiled(path: Path) -> None:
    """Python takes compiled code for fresh by size and second of the source: a fault can agree in both."""
    with suppress(FileNotFoundError):
        os.unlink(importlib.util.cache_from_source(str(path)))


def run_tests(tests: Sequence[str], tree: Path, limit_s: float) -> tuple[int | None, str]:
    """Run tests in the copy until the first fails, in a process that is forked off this one.

    Returns:
        pytest's exit status, None if the limit was reached, and what it printed.
    """
    with tempfile.TemporaryFile() as printed:
        child = os.fork()
        if child == 0:
            _become_pytest(tests, tree, printed.fileno())
        try:
            ended, _, _ = select.select([os.pidfd_open(child)], [], [], limit_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # with what the tests have started
            _, status = os.waitpid(child, 0)
        printed.seek(0)
        text = printed.read().decode(errors="replace")
    return (os.waitstatus_to_exitcode(status) if ended else None), text


def _become_pytest(tests: Sequence[str], tree: Path, output: int) -> NoReturn:
    """In a forked process: run tests and end."""
    status = 70
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(tree)
        os.dup2(output, 1)
        os.dup2(output, 2)
        _forget_the_tree()
        places = [str(tree), str(tree.parent / "imports")]
        sys.path[:0] = places
        os.environ["PYTHONPATH"] = os.pathsep.join(places)
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # it costs more than most of the tests
        import pytest

        options = ["-x", "-q", "-p", "no:cacheprovider"]
        if importlib.util.find_spec("xdist"):  # test/conftest.py has a hook of it then
            options += ["-p", "xdist.plugin"]
        status = int(pytest.main([*options, *tests]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _forget_the_tree() -> None:
    """Tests import from the copy; a package that this process has from the tree itself would stand in its place."""
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or os.devnull)
        if name != "__main__" and file.is_relative_to(ROOT) and not file.is_relative_to(sys.prefix):
            del sys.modules[name]


def preload() -> None:
    """Import the large packages once, so that not every fault pays for them; nothing of the source tree."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)


def judge(fault: Fault, tree: Path, limit_s: float) -> str:
    """Return `killed` or `survived`.

    Raises:
        MutateError: the tests could not run at all with the fault, so that they say nothing about it.
    """
    with applied(fault, tree):
        status, printed = run_tests(fault.tests, tree, limit_s)
    if status in (None, 1):
        return "killed"
    if status == 0:
        return "survived"
    raise MutateError(f"with the fault '{fault}' pytest cannot run its tests (status {status}):\n{printed[-2000:]}")


def check_list(faults: Sequence[Fault], root: Path) -> None:
    """Check that every fault applies.

    Raises:
        MutateError: some do not; the text lists them.
    """
    stale = [f"stale     {fault}: {reason}" for fault in faults for reason in stale_reasons(fault, root)]
    if stale:
        raise MutateError("\n".join([*stale, "mend these entries; nothing was run"]))


def check_without_faults(faults: Sequence[Fault], tree: Path) -> None:
    """Check that the tests pass in the copy as it is, and that none of them is skipped.

    Raises:
        MutateError: they do not: no failure would say anything.
    """
    tests = list(dict.fromkeys(test for fault in faults for test in fault.tests))
    status, printed = run_tests(["-rs", *tests], tree, TIME_LIMIT_S + 10 * len(tests))
    if status != 0:
        what = "take too long" if status is None else f"do not pass (status {status})"
        raise MutateError(f"without any fault the tests {what}:\n{printed[-2000:]}")
    if "SKIPPED" in printed:
        raise MutateError(f"tests of the list are skipped here, and catch nothing:\n{printed[-2000:]}")


def mutate(faults: Sequence[Fault], root: Path, limit_s: float = TIME_LIMIT_S) -> int:
    """Try every fault and print one line for each; return the exit status."""
    check_list(faults, root)
    preload()
    counts = {"killed": 0, "survived": 0}
    with scratch_copy(root) as tree:
        check_without_faults(faults, tree)
        for fault in faults:
            begin = time.monotonic()
            result = judge(fault, tree, limit_s)
            counts[result] += 1
            print(f"{result:9} {fault} ({time.monotonic() - begin:.1f} s)", flush=True)
    print(f"{counts['killed']} of {len(faults)} faults were killed, {counts['survived']} survived")
    return 1 if counts["survived"] else 0


def chosen(faults: Sequence[Fault], words: Sequence[str]) -> list[Fault]:
    """Return the faults whose text contains one of the words; all without words.

    Raises:
        MutateError: there is none.
    """
    found = [fault for fault in faults if not words or any(word in str(fault) for word in words)]
    if not found:
        raise MutateError(f"no fault has one of the words {', '.join(words)} in its file or harm")
    return found


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only faults with one of these in file or harm")
    parser.add_argument("--faults", type=Path, default=FAULTS, metavar="FILE", help="another list (%(default)s)")
    parser.add_argument("--list", action="store_true", help="print the faults and run nothing")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run the command; return the exit status."""
    options = parse(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        faults = chosen(read_faults(options.faults), options.words)
        if options.list:
            print("\n".join(map(str, faults)))
            return 0
        return mutate(faults, ROOT)
    except MutateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the copy was removed", file=sys.stderr)
        return 130


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(with_streams(lambda: main(sys.argv[1:]), "mutate"))
