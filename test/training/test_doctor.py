"""`hrda doctor` as a user meets it: lines, exit codes, JSON; a process of ROS that dies is a line too."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hrda_core.doctor import examine as examining
from hrda_core.findings import Finding, fail, ok, warn
from hrda_training import doctor
from hrda_training.__main__ import main

SAY = "import json, sys; print(json.dumps({'subject': 'ROS 2', 'state': 'ok', 'text': 'jazzy', 'advice': ''})); "


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the checks of this machine find; those of ROS find that it is jazzy."""
    findings: list[Finding] = [ok("Python", "3.12")]

    def examine(models: Any) -> Iterator[tuple[str, list[Finding]]]:
        yield "Python", findings
        yield "machine", []

    monkeypatch.setattr(examining, "examine", examine)
    monkeypatch.setattr(doctor, "ros_findings", lambda command: [ok("ROS 2", "jazzy")])
    return findings


def test_a_machine_that_is_well_ends_with_0_and_a_failure_with_1(
    found: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor"]) == 0
    found.append(warn("clock", "nobody keeps it", "run chrony"))
    assert main(["doctor"]) == 0
    found.append(fail("disk", "full", "make room"))
    capsys.readouterr()
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.startswith("  fail")] == [["fail", "disk", "full"]]
    assert [line.strip() for line in lines if "->" in line] == ["-> run chrony", "-> make room"]
    assert lines[-1] == "2 ok, 1 warn, 1 fail"
    assert lines.index("ROS") > lines.index("Python")


def test_the_findings_are_written_as_json(found: list[Finding], tmp_path: Path) -> None:
    assert main(["doctor", "--json", str(tmp_path / "new" / "doctor.json")]) == 0
    written = json.loads((tmp_path / "new" / "doctor.json").read_text())
    assert written["counts"] == {"ok": 2, "warn": 0, "fail": 0}
    assert [(row["part"], row["subject"]) for row in written["findings"]] == [("Python", "Python"), ("ROS", "ROS 2")]


@pytest.mark.parametrize("words", [["--modle", "x"], ["--json"], ["--json", "/proc/no/such.json"]])
def test_a_mistake_in_the_options_is_one_sentence_and_exit_code_2(
    found: list[Finding], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *words]) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("hrda doctor: error: ")


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("sys.exit(102)", "ended with exit code 102"),
        ("import os; sys.stdout.flush(); os.kill(os.getpid(), 9)", "ended with exit code -9"),
    ],
)
def test_a_process_of_ros_that_dies_is_a_failure_and_what_it_found_before_is_told(end: str, told: str) -> None:
    first, last = doctor.ros_findings([sys.executable, "-S", "-c", "print('a library'); " + SAY + end])
    assert (first.text, last.state) == ("jazzy", "fail")
    assert told in last.text


def test_a_process_of_ros_that_hangs_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **options: Any) -> Any:
        raise subprocess.TimeoutExpired(command, 60, output=json.dumps(ok("ROS 2", "jazzy").to_dict()).encode())

    monkeypatch.setattr(subprocess, "run", hang)
    first, last = doctor.ros_findings(["ros"])
    assert (first.text, last.state) == ("jazzy", "fail")
    assert "gave no answer within" in last.text


def test_it_runs_where_no_package_but_the_standard_library_imports(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('numpy', 'cv2', 'yaml', 'onnxruntime', 'torch', 'jsonargparse', 'rclpy', 'tqdm'):\n"
        "    sys.modules[name] = None\n"
        "from hrda_core.doctor import examine, python_checks\n"
        "import hrda_training.doctor as doctor\n"
        "examine.check_libraries_together = lambda: python_checks.fail('numpy', 'missing', 'install it')\n"
        "examine.check_onnx_runtime = lambda driver: None\n"
        "doctor._ROS = [sys.executable, '-c', '']\n"
        "from hrda_training.__main__ import main\n"
        f"sys.exit(main(['doctor', '--json', {str(tmp_path / 'doctor.json')!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    subjects = {row["subject"]: row["state"] for row in json.loads((tmp_path / "doctor.json").read_text())["findings"]}
    assert subjects["numpy"] == "fail"
    assert subjects["models"] == "fail"
    assert subjects["GPU"] in ("ok", "warn")


def test_a_named_pipe_in_the_place_of_the_result_is_one_sentence_and_nothing_waits_for_it(
    found: list[Finding], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert main(["doctor", "--json", str(pipe)]) == 2
    assert "cannot be written (it is not a file); nothing was written: give another place" in capsys.readouterr().err


def test_where_the_disk_has_no_room_for_the_findings_the_file_of_before_stays(
    found: list[Finding], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "doctor.json"
    path.write_text("of before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        assert main(["doctor", "--json", str(path)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "of before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["doctor.json"]
    assert "(File too large); the previous one is kept" in capsys.readouterr().err
