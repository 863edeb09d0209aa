"""The progress printer: quiet lines in a log, one live line on a terminal."""

from __future__ import annotations

import re
import sys
import time

import pytest

from hrda_core.inference.tensorrt.progress import BuildProgress
from hrda_core.trainer.journal import Progress
from hrda_training.progress import ProgressPrinter


def test_a_short_stage_leaves_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressPrinter() as printer:
        for done in range(1, 6):
            printer.count("images", done, 5)
    assert capsys.readouterr().err == ""


def test_a_long_stage_leaves_whole_lines_in_a_log_and_ends_with_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressPrinter(log_every_s=0.05) as printer:
        printer.say("predict: images of a folder")
        for done in range(1, 6):
            time.sleep(0.06)
            printer.count("images", done, 5, "half of them dark")
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "predict: images of a folder"
    assert 2 <= len(lines) <= 5
    assert all(re.fullmatch(r"\d/5 images, [\d:?]+ left, [\d:]+ so far, half of them dark", line) for line in lines)
    assert lines[-1].startswith("5/5 images, 00:00 left")


def test_where_nobody_knows_how_many_there_are_the_done_ones_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressPrinter(log_every_s=0.0) as printer:
        for done in range(1, 4):
            time.sleep(0.01)
            printer.count("frames", done, 0)
    assert capsys.readouterr().err.splitlines()[-1] == "3 frames, 00:00 so far"


def test_a_terminal_has_one_live_line_and_what_is_said_stands_above_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ProgressPrinter() as printer:
        printer.count("images", 1, 3)
        printer.say("a picture is damaged")
        printer.count("images", 3, 3)
        printer.count("images", 3, 3)
        printer.count("frames", 1, 9)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 3  # what was said, and the ends of two stages
    assert re.search(r"\rimages: 100%.*3/3", printed)
    assert re.search(r"\rframes: +11%.*1/9", printed)
    assert printed.endswith("\n")


def test_a_step_of_a_training_shows_loss_and_pseudo_label_weight(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressPrinter(log_every_s=0.0) as printer:
        for iteration in (7, 8):
            time.sleep(0.01)
            metrics = {"pseudo_weight": 0.531}
            printer.step(Progress(iteration, 9, {"fused": 0.25, "detail": 0.125}, metrics, 1e-4, 0.1, 0.0))
    assert re.search(r"^8/9 iterations, .*, loss 0.375, pseudo-label weight 0.53$", capsys.readouterr().err, re.M)


def test_the_build_of_an_engine_shows_its_outermost_phase(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressPrinter(log_every_s=0.0) as printer:
        printer.build(BuildProgress("Timing tactics", "Building engine", 1, 900, 0.1))
        printer.build(BuildProgress("Building engine", "", 2, 6, 0.2))
        time.sleep(0.01)
        printer.build(BuildProgress("Timing tactics", "Building engine", 40, 900, 0.3))
    printed = capsys.readouterr().err
    assert re.search(r"^2/6 steps of Building engine, .*, Timing tactics$", printed, re.M)
    assert "900" not in printed
