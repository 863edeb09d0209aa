"""Engines on disk under processes that build at once, and under a kill of one. Real processes; no GPU needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("cache_process.py")


def _start(repository: Path, folder: Path, log: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )


def _start_builders(repository: Path, folder: Path, log: Path, count: int) -> list[subprocess.Popen[str]]:
    """Processes that have loaded everything and wait for a line to begin."""
    processes = [_start(repository, folder, log) for _ in range(count)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return processes


def _tell(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(process.communicate(timeout=240)[0])
    return result


def _wait_for(log: Path, word: str, count: int) -> list[str]:
    """The processes that have written this word into the log, once there are so many."""
    while True:
        lines = log.read_text().splitlines() if log.exists() else []
        found = [line.partition(" ")[2] for line in lines if line.startswith(word)]
        if len(found) >= count:
            return found
        time.sleep(0.01)


def test_processes_that_build_at_once_build_once(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = _start_builders(repository, tmp_path / "engines", log, 4)
    for process in processes:
        _tell(process, "begin")
    _wait_for(log, "waits", 3)
    (builder,) = _wait_for(log, "builds", 1)
    _tell(next(process for process in processes if str(process.pid) == builder), "end")
    results = [_result(process) for process in processes]
    assert _wait_for(log, "builds", 1) == [builder]
    assert all(result["whole"] for result in results)
    # The others say whom they wait for.
    waited = [result["said"] for result in results if result["said"]]
    assert len(waited) == 3
    assert all(f"process {builder} is building an engine" in said[0] for said in waited)


def test_the_lock_of_a_killed_builder_is_free(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first, second = _start_builders(repository, tmp_path / "engines", log, 2)
    _tell(first, "begin")
    _wait_for(log, "builds", 1)
    _tell(second, "begin")
    _wait_for(log, "waits", 1)
    first.kill()
    first.communicate()
    _tell(second, "end")
    assert _result(second)["whole"]
    assert _wait_for(log, "builds", 2) == [str(first.pid), str(second.pid)]
