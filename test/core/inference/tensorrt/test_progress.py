"""Progress of a build in words, and the heartbeat for a TensorRT that reports none."""

from __future__ import annotations

import time

from hrda_core.inference.tensorrt.progress import BuildProgress, heartbeat, log_lines


def test_a_step_reads_as_a_sentence() -> None:
    step = BuildProgress("Timing graph nodes", "Building engine", 3, 200, 61.4)
    assert str(step) == "building the engine: Timing graph nodes, 3 of 200, 61 s so far"
    assert str(BuildProgress("TensorRT builder", "", 0, 0, 5.0)) == "building the engine: TensorRT builder, 5 s so far"


def test_lines_come_at_most_as_often_as_asked() -> None:
    lines: list[str] = []
    begin = time.monotonic()
    report = log_lines(lines.append, every_s=0.1)
    while time.monotonic() - begin < 0.15:
        report(BuildProgress("p", "", 1, 2, 0.0))
    assert 1 <= len(lines) <= (time.monotonic() - begin) / 0.1


def test_the_heartbeat_beats_until_the_build_ends() -> None:
    seen: list[BuildProgress] = []
    with heartbeat(seen.append, "TensorRT builder", every_s=0.02):
        while len(seen) < 2:
            time.sleep(0.01)
    beats = len(seen)
    time.sleep(0.06)
    assert len(seen) == beats
    assert [step.elapsed_s for step in seen] == sorted(step.elapsed_s for step in seen)
