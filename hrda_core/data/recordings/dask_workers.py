"""Workers of a dask.distributed cluster that work on recordings, one recording a task each.

Only paths, options and small results travel, never frames: the workers read the recordings themselves, from a disk that
they share with this machine, and write chosen frames to it. dask does a task again whose worker died, and gives it up
after as many deaths as the scheduler allows (`distributed.scheduler.allowed-failures`, 3 by default). Needs the package
distributed.
"""

from __future__ import annotations

import asyncio
import pydoc
import re
import time
import uuid
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from hrda_core.data.recordings.recording_workers import AnyJob, Report, Result, outcome
from hrda_core.errors import DataError, RecipeError, one_line, require, shown

__all__ = ["DaskWorkers", "check_address"]

_ADDRESS = re.compile(r"((tcp|tls|ws|wss)://)?([\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}")
_ANSWER_S = 5.0
_LOOK_S = 2.0
_EMPTY_S = 60.0
"""Time in which a cluster without workers may get new ones."""
_RELEASES = {"hrda_core": "hrda_ros", "numpy": "numpy", "cv2": "opencv-python-headless"}
"""Modules whose releases decide what a frame looks like: import name -> package."""


def check_address(address: str) -> None:
    """Refuse what is no address of a scheduler.

    Raises:
        RecipeError: it is not like `tcp://host:8786`, where `tcp://` may be left out.
    """
    if not _ADDRESS.fullmatch(address):
        raise RecipeError(
            f"--dask is the address that 'dask scheduler' prints, such as tcp://host:8786, not '{shown(address)}'"
        )


class DaskWorkers:
    """A connection to a cluster; as a context manager it connects and checks the workers, and leaves them running.

    Args:
        address: of the scheduler.
        say: takes a sentence when a worker has gone.

    Raises on entering:
        MissingPackageError: distributed is not installed.
        RecipeError: nobody answers at the address.
        DataError: there is no worker, or one has another release of what decides on the frames.
    """

    def __init__(self, address: str, say: Callable[[str], None]) -> None:
        check_address(address)
        self._address, self._say = address, say
        self._client: Any = None
        self._releases = _releases()

    def __enter__(self) -> DaskWorkers:
        self._client = _connect(self._address)
        try:
            self._check_releases()
        except BaseException:
            self._client.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def run(
        self, task: Callable[[AnyJob, Report], Result], jobs: Sequence[AnyJob], progress: Report | None = None
    ) -> Generator[tuple[int, Result], None, None]:
        """Do each job once, and yield its number and result as they come, as `RecordingWorkers.run`.

        Who stops iterating takes back the jobs that wait; those in hand are done to their end.

        Raises:
            DataError: a recording cannot be read or seen, its workers died, no worker is left, or the scheduler is
                gone.
        """
        self._check_places({path for job in jobs for path in job.places})
        name, done = f"hrda-{uuid.uuid4().hex}", [0] * len(jobs)

        def note(event: tuple[float, Sequence[int]]) -> None:  # in the client's thread
            number, value = event[1]
            done[number] = value

        self._client.subscribe_topic(name, note)
        futures = {
            self._client.submit(
                _on_worker, task, job, number, name, self._releases, key=f"{name}-{number}", pure=False
            ): number
            for number, job in enumerate(jobs)
        }
        watch = _Watch(self._client, self._address, self._say)
        try:
            while futures:
                for future in _finished(self._client, futures):
                    number = futures.pop(future)
                    value, done[number] = _value(future, jobs[number].path, self._address)
                    yield number, value
                if progress is not None:
                    progress(sum(done))
                watch.look()
            watch.look(at_once=True)
        finally:
            if self._client.status == "running":
                self._client.cancel(list(futures))
                self._client.unsubscribe_topic(name)

    def _check_releases(self) -> None:
        if not self._client.nthreads():
            raise DataError(
                f"the dask cluster at '{self._address}' has no worker; start some with 'dask worker {self._address}'"
            )
        for module, here in self._releases.items():
            # A function of Python's own: a worker of another release may lack any of ours.
            there = self._client.run(pydoc.locate, f"{module}.__version__", on_error="return")
            for worker, found in there.items():
                _check_release(worker, module, found if isinstance(found, str) else "", here)

    def _check_places(self, paths: Collection[Path]) -> None:
        hidden: Mapping[str, Any] = self._client.run(_hidden, sorted(paths), on_error="return")
        for worker, found in hidden.items():
            if isinstance(found, Path):
                raise DataError(_unseen(worker, found))


def _releases() -> dict[str, str]:
    return {module: str(pydoc.locate(f"{module}.__version__")) for module in _RELEASES}


def _connect(address: str) -> Any:
    distributed = require("distributed", "fleet")
    try:
        # A client would wait for ever for an answer of something else that listens there.
        asyncio.run(asyncio.wait_for(_ask(distributed, address), _ANSWER_S))
        return distributed.Client(address, timeout=_ANSWER_S, set_as_default=False, name="hrda")
    except Exception as error:  # of the network, or of a configuration of TLS
        late = isinstance(error, TimeoutError | distributed.TimeoutError)
        raise RecipeError(
            f"no dask scheduler answers at '{address}' within {_ANSWER_S:.0f} seconds"
            f"{'' if late else f' ({one_line(error)})'}; start one with 'dask scheduler', or correct --dask"
        ) from error


async def _ask(distributed: Any, address: str) -> None:
    """Have a scheduler say what it is."""
    arguments = distributed.Security().get_connection_args("client")
    async with distributed.rpc(address, connection_args=arguments) as scheduler:
        await scheduler.identity()


def _check_release(worker: str, module: str, there: str, here: str) -> None:
    if there != here:
        package = _RELEASES[module]
        found = f"{package} {shown(there)}" if there else f"no {package} that can be imported"
        raise DataError(
            f"dask worker {worker} has {found}, and here is {here}: it might choose other frames; install the same "
            f"release of {package} for all workers and start them again"
        )


def _unseen(worker: str, path: Path) -> str:
    return (
        f"dask worker {worker} does not see '{path}'; put recordings and working folder on a disk that all workers "
        "have under the same path, or use --workers"
    )


def _hidden(paths: Sequence[Path]) -> Path | None:
    """The first path that is not seen here, on a worker."""
    return next((path for path in paths if not path.exists()), None)


def _finished(client: Any, futures: Mapping[Any, int]) -> list[Any]:
    """Futures that are done, after half a second at most."""
    distributed = require("distributed", "fleet")
    try:
        with client.as_current():
            return list(distributed.wait(list(futures), timeout=0.5, return_when="FIRST_COMPLETED").done)
    except distributed.TimeoutError:
        return []


def _value(future: Any, path: Path, address: str) -> tuple[Any, int]:
    """Result of a job, and the number of things that it did."""
    distributed = require("distributed", "fleet")
    if future.status == "cancelled":
        raise _lost(address)
    if future.status == "error":
        error = future.exception()
        if isinstance(error, distributed.KilledWorker):
            raise DataError(
                f"{error.allowed_failures + 1} dask workers died while they had '{path}' in hand, as they do when "
                "memory runs out; give workers more memory (dask worker --memory-limit), or leave that recording out"
            )
        raise RuntimeError(f"a dask worker failed on '{path}': {one_line(error)}") from error
    (kind, value), count = future.result()
    if kind == "refused":
        raise DataError(value)
    if kind == "failed":
        raise RuntimeError(f"a dask worker failed on '{path}':\n{value}")
    return value, count


def _lost(address: str) -> DataError:
    return DataError(
        f"the dask scheduler at '{address}' has gone while recordings were read; start it again, and then this command"
    )


class _Watch:
    """Looks now and then whether workers have gone, and says so."""

    def __init__(self, client: Any, address: str, say: Callable[[str], None]) -> None:
        self._client, self._address, self._say = client, address, say
        self._known: set[str] = set(client.nthreads())
        self._looked = self._filled = time.monotonic()

    def look(self, *, at_once: bool = False) -> None:
        """Look, if the last time is long enough ago, or at once.

        Raises:
            DataError: the scheduler has gone, or all workers have for long.
        """
        if self._client.status != "running":
            raise _lost(self._address)
        now = time.monotonic()
        if now - self._looked < _LOOK_S and not at_once:
            return
        workers, self._looked = set(self._client.nthreads()), now
        for worker in sorted(self._known - workers):
            self._say(f"dask worker {worker} has gone; what it had in hand is done again")
        self._known = workers
        if workers:
            self._filled = now
        elif now - self._filled > _EMPTY_S:
            raise DataError(
                f"the dask cluster at '{self._address}' has had no worker for {_EMPTY_S:.0f} seconds; start some with "
                f"'dask worker {self._address}', and then this command again"
            )


def _on_worker(
    task: Callable[[Any, Report], Any], job: Any, number: int, topic: str, releases: Mapping[str, str]
) -> tuple[tuple[str, Any], int]:
    """Do a job, on a worker, which may have joined after the first checks: what came of it, and the things done."""
    worker = require("distributed", "fleet").get_worker()
    told, count = 0.0, 0

    def report(done: int) -> None:
        nonlocal told, count
        count, now = done, time.monotonic()
        if now - told > 1:  # each goes through the scheduler
            told = now
            worker.log_event(topic, [number, done])

    def checked(job: Any, report: Report) -> Any:
        for module, there in _releases().items():
            _check_release(worker.address, module, there, releases[module])
        if (hidden := _hidden(job.places)) is not None:
            raise DataError(_unseen(worker.address, hidden))
        return task(job, report)

    return outcome(checked, job, report), count
