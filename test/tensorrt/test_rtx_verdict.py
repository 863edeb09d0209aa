"""What the gate makes of a compiler that answers, refuses, crashes, hangs or does not load. Nothing is fetched."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
import tensorrt_rtx
import tensorrt_stubs
from tensorrt_rtx import RefusedError, compile_graph
from tensorrt_wheels import UnavailableError, Wheel, unpacked

LOADED = "print('loaded 11', flush=True)\n"


@pytest.fixture
def answer(monkeypatch, tmp_path):
    """Let a made-up child stand for the compiler; the code of the child is the argument."""

    def compile_with(code: str, time_limit_s: float = 60):
        child = tmp_path / "child.py"
        child.write_text(code, encoding="utf-8")
        monkeypatch.setattr(tensorrt_rtx, "CHILD", child)
        monkeypatch.setattr(tensorrt_rtx, "compiler_folder", lambda: tmp_path)
        return compile_graph(tmp_path / "graph.onnx", time_limit_s=time_limit_s)

    return compile_with


def test_a_built_engine_is_a_pass(answer):
    found = answer(LOADED + """print('built {"plan_bytes": 7, "seconds": 1.5, "peak_mb": 3}')""")
    assert (found.plan_bytes, found.seconds, found.peak_mb) == (7, 1.5, 3)


def test_a_refusal_is_a_failure_with_the_words_of_the_compiler(answer):
    with pytest.raises(RefusedError, match=r"^node 'a': no such operation$"):
        answer(LOADED + """print('refused "node \\'a\\': no such operation"')""")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('libnvinfer.so.11: undefined symbol')", "does not load here.*undefined symbol"),
        ("import os\nos.abort()", "crashed \\(SIGABRT\\)"),
        (LOADED + "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "crashed \\(SIGSEGV\\)"),
        ("", "does not load here: no output"),
        (LOADED + """print('unusable "no memory"')""", "does not work here: no memory"),
    ],
)
def test_no_answer_is_no_verdict(answer, code, reason):
    with pytest.raises(UnavailableError, match=reason):
        answer(code)


def test_a_compiler_that_hangs_is_no_verdict(answer):
    with pytest.raises(UnavailableError, match=r"took more than 0\.5 s"):
        answer(LOADED + "import time\ntime.sleep(30)", time_limit_s=0.5)


def test_a_fault_of_our_builder_is_neither_skipped_nor_passed(answer):
    with pytest.raises(RuntimeError, match="TypeError: of ours"):
        answer(LOADED + "raise TypeError('of ours')")
    with pytest.raises(RuntimeError, match="status 0"):
        answer(LOADED)


@pytest.fixture
def index(monkeypatch, tmp_path) -> Wheel:
    """A package index that is a folder with one wheel."""
    pytest.importorskip("pip")
    folder = tmp_path / "index"
    folder.mkdir()
    file = folder / "made_up-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("made_up/__init__.py", "")
        archive.writestr("made_up/large.bin", "")
        archive.writestr("made_up-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n")
        archive.writestr("made_up-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("made_up-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("HRDA_WHEELS", str(tmp_path / "wheels"))
    monkeypatch.setattr("tensorrt_wheels._check_platform", lambda: None)
    return Wheel("made-up", "1.0", sha256(file.read_bytes()).hexdigest())


def test_a_wheel_is_fetched_once_and_unpacked_in_part(index, monkeypatch, tmp_path):
    folder = unpacked(index)
    assert [path.name for path in sorted(folder.rglob("*")) if path.is_file()] == ["__init__.py"]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert unpacked(index) == folder


def test_other_bytes_than_the_pinned_ones_are_an_error_and_not_a_skip(index, tmp_path):
    with pytest.raises(ValueError, match="nothing of it was used"):
        unpacked(Wheel("made-up", "1.0", "0" * 64))
    assert not any(path.is_dir() for path in (tmp_path / "wheels").iterdir())


def test_a_wheel_that_cannot_be_fetched_is_unavailable(index):
    with pytest.raises(UnavailableError, match=r"pip cannot fetch made-up==2\.0"):
        unpacked(Wheel("made-up", "2.0", index.sha256))


def test_no_compiler_for_the_empty_libraries_is_unavailable(monkeypatch, tmp_path):
    monkeypatch.setattr(tensorrt_stubs.shutil, "which", lambda name: None)
    with pytest.raises(UnavailableError, match="no C compiler"):
        tensorrt_stubs.compile_stub(tmp_path / "stub.so", ("nothing",))


def test_the_command_says_what_was_wrong_with_its_arguments(repository: Path, tmp_path):
    for arguments, text in [
        ([str(tmp_path / "none.onnx")], "there is no file"),
        (["--size", "640", str(tmp_path / "none.onnx")], "write it as 512x640"),
    ]:
        command = [sys.executable, str(repository / "tools" / "compile_with_tensorrt_rtx.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 2
        assert text in done.stderr
