"""What a user names is opened only if it is a file, also where another process puts something else in its place."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import pytest

from hrda_core import plain_files
from hrda_core.plain_files import copy_file, open_file, read_file


def test_a_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with open_file(tmp_path / "file") as file:
        assert file.read() == b"content"
    assert read_file(tmp_path / "file") == b"content"
    copy_file(tmp_path / "file", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        open_file(tmp_path / "absent")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_a_pipe_and_a_folder_are_refused_also_where_they_come_after_the_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object
) -> None:
    path = tmp_path / "file"
    make(path)  # type: ignore[operator]
    open_before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="it is not a file"):
        open_file(path)
    monkeypatch.setattr(plain_files, "check_file", lambda path: None)
    for read in (open_file, read_file, lambda path: copy_file(path, tmp_path / "copy")):
        with pytest.raises(OSError, match="it is not a file"):
            read(path)
    assert not (tmp_path / "copy").exists()
    assert set(os.listdir("/proc/self/fd")) == open_before


def test_the_refusal_is_an_error_of_the_system_that_processes_can_hand_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is not a file") as raised:
        open_file(tmp_path / "pipe")
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.filename) == ("it is not a file", str(tmp_path / "pipe"))
    assert again.errno


@pytest.mark.parametrize("package", ["hrda_core", "hrda_ros", "training"])
def test_no_module_copies_by_a_function_that_waits_for_a_pipe(repository: Path, package: str) -> None:
    waiting = re.compile(r"shutil\.(copy|copy2|copyfile|copytree)\(")
    found = [path for path in (repository / package).rglob("*.py") if waiting.search(path.read_text(encoding="utf-8"))]
    assert found == []
