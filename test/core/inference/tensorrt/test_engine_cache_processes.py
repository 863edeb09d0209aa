"""Engines on disk under kills and under processes that build at once. Real processes and signals; no GPU needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("cache_process.py")
KILLS = 200


def _start(repository: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )


def _start_builders(repository: Path, folder: Path, log: Path, *seconds: float) -> list[subprocess.Popen[str]]:
    """Processes that have loaded everything and wait for a line to begin."""
    processes = [_start(repository, "build", folder, log, duration) for duration in seconds]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    return processes


def _let_begin(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(process.communicate(timeout=60)[0])
    return result


@pytest.mark.heavy
def test_two_hundred_kills_leave_nothing_or_a_whole_engine(repository: Path, tmp_path: Path) -> None:
    process = _start(repository, "kills", tmp_path / "engines", KILLS, 7)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    found = json.loads(output)
    print(found)
    assert found["broken"] == []
    assert found["left"] == [".golden", ".json", ".plan"]
    assert sum(found["states"].values()) == KILLS
    # The kills came at the moments that matter, or the test would show nothing.
    assert found["states"].get("half a plan", 0) >= 5
    assert found["states"].get("plan without manifest", 0) >= 2
    assert found["states"].get("whole", 0) >= 1


def test_processes_that_build_at_once_build_once(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = _start_builders(repository, tmp_path / "engines", log, 0.7, 0.7, 0.7, 0.7)
    for process in processes:
        _let_begin(process)
    results = [_result(process) for process in processes]
    builders = log.read_text().split()
    assert len(builders) == 1
    assert all(result["whole"] for result in results)
    # The others say whom they wait for.
    waited = [line for result in results for line in result["said"]]
    assert len(waited) == 3
    assert all(f"process {builders[0]} is building an engine" in line for line in waited)


def test_the_lock_of_a_killed_builder_is_free(repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first, second = _start_builders(repository, tmp_path / "engines", log, 60, 0)
    _let_begin(first)
    while not log.exists() or not log.read_text():
        time.sleep(0.01)
    _let_begin(second)
    time.sleep(0.2)
    first.kill()
    first.communicate()
    assert _result(second)["whole"]
    assert len(log.read_text().split()) == 2
