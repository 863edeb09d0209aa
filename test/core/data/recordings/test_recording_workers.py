"""Processes that work on recordings: what is done again, what is refused, and that none is left."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from recording_jobs import Job, work

from hrda_core.data.recordings.recording_workers import RecordingWorkers, check_workers
from hrda_core.errors import DataError, RecipeError


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def workers(said: list[str]) -> Iterator[RecordingWorkers]:
    with RecordingWorkers(2, said.append) as started:
        yield started


def test_a_recording_whose_process_is_killed_is_done_again_and_that_is_said(
    workers: RecordingWorkers, said: list[str], tmp_path: Path
) -> None:
    jobs = [Job(tmp_path / "a"), Job(tmp_path / "b", deaths=1), Job(tmp_path / "c")]
    counts: list[int] = []

    results = dict(workers.run(work, jobs, counts.append))

    assert results == {0: "a", 1: "b", 2: "c"}
    assert counts[-1] == 6
    assert [sentence for sentence in said if "done again" in sentence and f"{tmp_path / 'b'}" in sentence]
    assert len(list(tmp_path.glob("a.call*"))) == len(list(tmp_path.glob("c.call*"))) == 1


def test_a_recording_whose_process_is_killed_twice_is_one_sentence(workers: RecordingWorkers, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b' was ended from outside 2 times.*fewer --workers"):
        list(workers.run(work, [Job(tmp_path / "b", deaths=2)]))


def test_what_a_recording_is_refused_for_is_said_as_here(workers: RecordingWorkers, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^'refused' cannot be read$"):
        list(workers.run(work, [Job(tmp_path / "refused")]))


def test_an_interruption_leaves_no_process(tmp_path: Path) -> None:
    before = set(multiprocessing.active_children())

    with suppress(KeyboardInterrupt), RecordingWorkers(1, print) as own:
        for _ in own.run(work, [Job(tmp_path / "a"), Job(tmp_path / "b")]):
            assert set(multiprocessing.active_children()) - before
            raise KeyboardInterrupt

    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize("count", [0, -1, 257])
def test_a_number_of_workers_that_makes_no_sense_is_refused(count: int) -> None:
    with pytest.raises(RecipeError, match="1 to 256"):
        check_workers(count)
