"""Workers of a cluster that work on recordings: what is done again, what is refused, and how the cluster is missed."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_cluster import ALLOWED_FAILURES, local_cluster
from recording_jobs import Job, work

from hrda_core.data.recordings import dask_workers
from hrda_core.data.recordings.dask_workers import DaskWorkers
from hrda_core.data.recordings.worker_choice import WorkerChoice
from hrda_core.errors import DataError, MissingPackageError, RecipeError

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with local_cluster(2) as started:
        yield started


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def workers(cluster: Any, said: list[str]) -> Iterator[DaskWorkers]:
    with DaskWorkers(cluster.scheduler_address, said.append) as opened:
        yield opened


def _jobs(folder: Path, **deaths: int) -> list[Job]:
    jobs = [Job(folder / name, number) for name, number in deaths.items()]
    for job in jobs:
        job.path.touch()
    return jobs


def test_a_recording_whose_worker_is_killed_is_done_again_and_that_is_said(
    workers: DaskWorkers, said: list[str], tmp_path: Path
) -> None:
    counts: list[int] = []

    results = dict(workers.run(work, _jobs(tmp_path, a=0, b=1, c=0), counts.append))

    assert results == {0: "a", 1: "b", 2: "c"}
    assert counts[-1] == 6
    assert [sentence for sentence in said if "has gone; what it had in hand is done again" in sentence]
    assert len(list(tmp_path.glob("b.call*"))) == 2


def test_a_recording_whose_workers_are_killed_again_and_again_is_one_sentence(
    workers: DaskWorkers, tmp_path: Path
) -> None:
    deaths = ALLOWED_FAILURES + 1

    with pytest.raises(DataError, match=rf"^{deaths} dask workers died while they had '{tmp_path}/b' in hand.*memory"):
        list(workers.run(work, _jobs(tmp_path, b=deaths)))


def test_what_a_recording_is_refused_for_is_said_as_here(workers: DaskWorkers, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^'refused' cannot be read$"):
        list(workers.run(work, _jobs(tmp_path, refused=0)))


def test_a_recording_that_a_worker_does_not_see_is_one_sentence_before_any_work(
    workers: DaskWorkers, tmp_path: Path
) -> None:
    away = tmp_path / "away"

    with pytest.raises(DataError, match=rf"^dask worker tcp://127\S+ does not see '{away}'; .*same path"):
        list(workers.run(work, [*_jobs(tmp_path, a=0), Job(away / "b")]))
    assert not list(tmp_path.glob("*.call*"))


def test_workers_of_another_release_do_no_work(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_workers, "_releases", lambda: {"hrda_core": "9.9"})

    with (
        pytest.raises(DataError, match=r"^dask worker \S+ has hrda_ros \d\S+, and here is 9\.9: .*install the same"),
        DaskWorkers(cluster.scheduler_address, print),
    ):
        pass


def test_a_worker_of_another_release_that_joins_later_does_no_work(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DaskWorkers, "_check_releases", lambda self: None)

    with DaskWorkers(cluster.scheduler_address, print) as opened:
        opened._releases["cv2"] = "4.0"
        with pytest.raises(DataError, match=r"has opencv-python-headless \d\S+, and here is 4\.0"):
            list(opened.run(work, _jobs(tmp_path, a=0)))
    assert not list(tmp_path.glob("*.call*"))


def test_a_worker_without_this_package_does_no_work(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dask_workers._RELEASES, "hrda_else", "hrda_else")

    with (
        pytest.raises(DataError, match="has no hrda_else that can be imported"),
        DaskWorkers(cluster.scheduler_address, print),
    ):
        pass


def test_a_scheduler_that_goes_is_one_sentence(tmp_path: Path) -> None:
    with local_cluster(1) as short, DaskWorkers(short.scheduler_address, print) as opened:
        results = opened.run(work, _jobs(tmp_path, a=0, b=0))
        next(results)
        short.close()
        with pytest.raises(DataError, match=rf"scheduler at '{short.scheduler_address}' has gone"):
            list(results)


def test_a_cluster_without_workers_is_one_sentence() -> None:
    with (
        local_cluster(0) as empty,
        pytest.raises(DataError, match=r"has no worker; start some with 'dask worker tcp://127"),
        DaskWorkers(empty.scheduler_address, print),
    ):
        pass


def test_an_address_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_workers, "_ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(RecipeError, match=f"^no dask scheduler answers at '{address}' within .*dask scheduler"):
            DaskWorkers(address, print).__enter__()


@pytest.mark.parametrize("address", ["host", "8786", "ftp://host:8786", "tcp://host", "host:8786/status", "a b:1"])
def test_what_is_no_address_is_refused_before_anything_is_read(address: str) -> None:
    with pytest.raises(RecipeError, match="--dask is the address"):
        WorkerChoice(dask=address)


@pytest.mark.parametrize("address", ["host:8786", "tcp://10.0.0.1:8786", "tls://a-b.example:1", "tcp://[::1]:8786"])
def test_addresses_of_schedulers_are_taken(address: str) -> None:
    assert WorkerChoice(dask=address).help_with(1)


def test_processes_and_a_cluster_together_are_refused() -> None:
    with pytest.raises(RecipeError, match="--workers starts processes here, --dask uses a cluster"):
        WorkerChoice(2, "host:8786")


def test_without_dask_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)

    with pytest.raises(MissingPackageError, match=r"'distributed' is needed here.*\[fleet\]"):
        DaskWorkers("host:8786", print).__enter__()
