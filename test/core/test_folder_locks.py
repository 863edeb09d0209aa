"""Two that want the same folder are told apart; a lock outlasts no process, and leaves nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from hrda_core.errors import BundleError, DataError
from hrda_core.folder_locks import held_folder, locked
from hrda_core.whole_files import replaced_folder

MARKER = "result.json"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fill(folder: Path, text: str) -> None:
    folder.mkdir()
    for name in (text, MARKER):
        (folder / name).touch()


def test_t9_two_at_once_one_process_works_in_a_folder_and_an_empty_one_is_removed(tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    sentence = f"process {os.getpid()} is training in 'run'; wait until it has ended, or give another place"
    with held_folder(run, "training in 'run'"):
        with pytest.raises(DataError, match=sentence), held_folder(run, "training in 'run'"):
            pytest.fail("the block was entered")
        assert names(run) == [".lock"]
    assert not run.exists()
    with held_folder(run, "training in 'run'"):
        (run / "result").touch()
    assert names(run) == ["result"]
    with (
        pytest.raises(BundleError, match=r"folder '.*result' cannot be written"),
        held_folder(run / "result", "training", error=BundleError),
    ):
        pytest.fail("the block was entered")


def test_t9_two_at_once_the_second_goes_on_if_the_first_ends_and_removes_the_folder_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ExitStack()
    first.enter_context(held_folder(tmp_path / "run", "training"))
    monkeypatch.setattr(time, "sleep", lambda seconds: first.close())  # between two looks of the second
    with held_folder(tmp_path / "run", "training"):
        assert names(tmp_path / "run") == [".lock"]
    fill(first.enter_context(replaced_folder(tmp_path / "out", MARKER)), "first")
    with replaced_folder(tmp_path / "out", MARKER) as work:
        assert names(tmp_path / "out") == ["first", MARKER]
        fill(work, "second")
    assert names(tmp_path / "out") == [MARKER, "second"]
    assert names(tmp_path) == ["out"]


FORKS = """
import os, signal, sys, time
from pathlib import Path
from hrda_core.folder_locks import locked

with locked(Path(sys.argv[1]), "training"):
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    print("lives", flush=True)
    sys.stdin.read()
    os._exit(0)
"""


def test_t9_two_at_once_a_child_of_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "lives\n"
        assert process.wait(60) == -signal.SIGKILL
        with locked(tmp_path, "training"):
            pass
    assert names(tmp_path) == []


def test_a_lock_is_waited_for_and_leaves_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path, "busy", said.append):
            order.append("second")

    with locked(tmp_path, "busy"):
        thread = threading.Thread(target=second)
        thread.start()
        while not said:
            time.sleep(0.01)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert said == [f"process {os.getpid()} is busy; waiting for it, 0 s so far"]
    assert names(tmp_path) == []


def test_c4_a_lock_whose_number_has_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    for block in (held_folder(tmp_path / "run", "training"), replaced_folder(tmp_path / "out", MARKER)):
        with pytest.raises(DataError, match="No space left on device"), block:
            pytest.fail("the block was entered")
    assert names(tmp_path) == []


def test_a_folder_without_room_for_a_lock_is_one_sentence(tmp_path: Path) -> None:
    with (
        pytest.raises(BundleError, match=r"folder '.*absent' cannot be written"),
        locked(tmp_path / "absent", "busy", error=BundleError),
    ):
        pytest.fail("the block was entered")
