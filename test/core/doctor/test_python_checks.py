"""The interpreter and the packages: each absence is told as what it is."""

from __future__ import annotations

import pytest

from hrda_core.doctor.python_checks import (
    check_commands,
    check_interpreter,
    check_libraries_together,
    check_numpy_series,
    run_python,
)


def test_pythons_of_the_distributions_are_taken_and_others_are_not() -> None:
    assert [check_interpreter((3, minor, 1)).state for minor in (9, 10, 14, 15)] == ["fail", "ok", "ok", "fail"]
    assert "Python 3.10 to 3.14" in check_interpreter((3, 9, 1)).advice


def test_libraries_that_do_not_import_together_fail_with_their_own_sentence() -> None:
    found = check_libraries_together(lambda code: (1, "OpenCV was built for another numpy; install an older one"))
    assert (found.state, found.text, found.advice) == (
        "fail",
        "OpenCV was built for another numpy",
        "install an older one",
    )
    assert check_libraries_together(lambda code: (0, "numpy 1.26.4")).text == "numpy 1.26.4"


def test_a_library_that_ends_its_process_does_not_end_the_doctor() -> None:
    code, line = run_python("import os, sys; print('before', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)")
    assert code < 0
    assert line == "before"
    assert run_python("import time; time.sleep(60)", timeout_s=0.2) == (1, "it gave no answer within 0 s")


def test_a_numpy_of_another_series_than_the_distributions_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/opt/ros/jazzy")
    found = check_numpy_series(True, ["2.2.6", "1.26.4"])
    assert found is not None
    assert found.state == "warn"
    assert "numpy 2.2.6 hides the distribution's 1.26.4" in found.text
    assert found.advice.endswith("brings numpy 1.26 back")
    same = check_numpy_series(True, ["1.26.4", "1.26.0"])
    assert same is not None
    assert same.state == "ok"
    assert check_numpy_series(False, ["2.2.6", "1.26.4"]) is None


def test_a_machine_without_torch_is_well_and_told_what_it_cannot_do() -> None:
    recordings, training = check_commands(lambda name: name not in ("torch", "timm"))
    assert (recordings.state, training.state) == ("ok", "ok")
    assert training.text.startswith("no torch: this machine predicts, and does not adapt")


def test_a_package_that_is_missing_beside_torch_is_named() -> None:
    recordings, training = check_commands(lambda name: name not in ("rosbags", "timm"))
    assert (recordings.state, training.state) == ("warn", "warn")
    assert recordings.text.startswith("rosbags missing")
    assert "timm missing" in training.text
