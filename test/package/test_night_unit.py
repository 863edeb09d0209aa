"""The systemd unit and timer of `hrda night`: its command line, its settings, and who is told to end."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT, TIMER = "hrda-night.service", "hrda-night.timer"
SETTINGS = {"HRDA_SETUP", "HRDA_DRIVES", "HRDA_LINK", "HRDA_NIGHT_OPTIONS"}


def read(repository: Path, name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((repository / "config" / "systemd" / name).read_text(encoding="utf-8"))
    return parser


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is absent")
@pytest.mark.parametrize("name", [UNIT, TIMER])
def test_systemd_finds_nothing_wrong(repository: Path, tmp_path: Path, name: str) -> None:
    for each in (UNIT, TIMER):
        shutil.copy(repository / "config" / "systemd" / each, tmp_path)
    told = subprocess.run(["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True, timeout=60)
    assert (told.returncode, [line for line in told.stderr.splitlines() if "hrda-night" in line]) == (0, [])


def test_the_command_line_of_the_unit_is_one_pass_with_the_settings(repository: Path, tmp_path: Path) -> None:
    program = tmp_path / "a workspace" / "lib" / "hrda_ros" / "hrda"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$$" "$SOURCED" "$@"\n')
    (tmp_path / "ros2").write_text(f'#!/bin/sh\n[ "$*" = "pkg prefix hrda_ros" ] && echo "{tmp_path}/a workspace"\n')
    for path in (program, tmp_path / "ros2"):
        path.chmod(0o755)
    (tmp_path / "set up.bash").write_text("export SOURCED=yes\n")
    line = read(repository, UNIT)["Service"]["ExecStart"]
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HRDA_SETUP": str(tmp_path / "set up.bash"),
        "HRDA_DRIVES": "/data/my drives",
        "HRDA_LINK": "/data/current",
        "HRDA_NIGHT_OPTIONS": "--effort quick",
    }
    words = [word.replace("$$", "$") for word in shlex.split(line)]
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    told, _ = process.communicate(timeout=60)
    options = ["--watch", "/data/my drives", "--model", "/data/current", "--effort", "quick"]
    assert told.splitlines() == [str(process.pid), "yes", "night", "--once", *options]
    assert {name for name in SETTINGS if f"$${{{name}}}" in line} == SETTINGS


def test_the_loop_alone_is_told_to_end_so_that_the_adaptation_finishes_its_step(repository: Path) -> None:
    service = read(repository, UNIT)["Service"]
    assert service["KillMode"] == "mixed"
    assert "KillSignal" not in service
    assert service["User"] != "root"


def test_the_example_sets_what_the_unit_reads_and_the_timer_starts_it(repository: Path) -> None:
    text = (repository / "config" / "systemd" / "night.env").read_text(encoding="utf-8")
    given = {line.split("=")[0] for line in text.splitlines() if line and not line.startswith("#")}
    assert given == {*SETTINGS, "ROS_DOMAIN_ID"}
    assert Path(TIMER).stem == Path(UNIT).stem
    assert read(repository, TIMER)["Timer"]["Persistent"] == "true"
