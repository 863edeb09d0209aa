"""The node where a robot is unkind: a read-only install, a HOME that cannot be written, names in other alphabets."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SHIPPED = Path("models") / "hrda_lite"


def start(log: Path, *command: str | Path, **environment: str) -> subprocess.Popen[bytes]:
    """A node in the domain of these tests, its output in a file."""
    here = {**os.environ, **environment}
    with log.open("wb") as output:
        return subprocess.Popen(
            [str(word) for word in command], env=here, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def ready_then_stopped(process: subprocess.Popen[bytes], log: Path, timeout_s: float = 120.0) -> int:
    """Wait until the node serves, stop it, and return the exit code."""
    deadline = time.monotonic() + timeout_s
    while b"segmenting images" not in log.read_bytes():
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    return process.wait(60)


NODE = (sys.executable, "-m", "hrda_ros", "--ros-args")


def test_a_home_that_cannot_be_written_is_one_sentence(ros: Any, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    process = start(log, *NODE, HOME="/dev/null", ROS_LOG_DIR="", ROS_HOME="")
    assert process.wait(60) == 2
    told = log.read_text().splitlines()[-1]
    assert told.startswith("segment_node: ROS does not start")
    assert told.endswith("set ROS_LOG_DIR to a folder that can be written")
    assert "Traceback" not in log.read_text()


def test_with_a_log_folder_the_node_needs_no_home(ros: Any, repository: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    process = start(
        log, *NODE, "-p", f"model:={repository / SHIPPED}", HOME="/dev/null", HRDA_CACHE="", ROS_LOG_DIR=str(tmp_path)
    )
    assert ready_then_stopped(process, log) == 0


def test_c7_users_and_folders_may_be_named_in_any_alphabet(ros: Any, repository: Path, tmp_path: Path) -> None:
    home = tmp_path / "Žofie 佐藤"
    shutil.copytree(repository / SHIPPED, home / "modèles" / "hrda_lite")
    log = home / "log.txt"
    process = start(
        log,
        *NODE,
        "-p",
        f"model:={home / 'modèles' / 'hrda_lite'}",
        HOME=str(home),
        LC_ALL="POSIX",
        ROS_LOG_DIR="",
    )
    assert ready_then_stopped(process, log) == 0
    assert "Traceback" not in log.read_text(errors="replace")
    assert (home / ".ros" / "log").is_dir()


def test_a_read_only_install_serves(ros: Any, repository: Path, tmp_path: Path) -> None:
    install = tmp_path / "install"
    for name in ("hrda_core", "hrda_ros", "models"):
        shutil.copytree(repository / name, install / name, ignore=shutil.ignore_patterns("__pycache__"))
    mount = f"mount --bind '{install}' '{install}' && mount -o remount,ro,bind '{install}' && ! touch '{install}/x'"
    tried = subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"this process may not mount a folder read-only ({tried.stderr.strip()[:100]})")
    log = tmp_path / "log.txt"
    script = f"{mount} && cd / && exec {sys.executable} -m hrda_ros --ros-args -p model:={install / SHIPPED}"
    process = start(log, "unshare", "-m", "sh", "-c", script, PYTHONPATH=str(install))
    assert ready_then_stopped(process, log) == 0
