"""Processes that work on recordings side by side, one recording at a time each.

Only paths, options and small results travel between the processes, never frames. `concurrent.futures` is not enough: it
gives up all its work when one process dies, and does not tell which recording that process had in hand.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Protocol, TypeVar

from hrda_core.errors import DataError, HrdaError, RecipeError
from hrda_core.memory import keep_big_buffers

__all__ = ["MOST_WORKERS", "AnyJob", "RecordingWorkers", "Report", "Result", "check_workers", "outcome"]

MOST_WORKERS = 256
_TRIES = 2
_PATIENCE_S = 5.0
"""Time in which a process that was told to end removes what it unpacked."""


class Job(Protocol):
    """What is to be done with one recording. It can be pickled."""

    @property
    def path(self) -> Path:
        """The recording."""

    @property
    def places(self) -> tuple[Path, ...]:
        """What must be there where the job is done."""


AnyJob = TypeVar("AnyJob", bound=Job)
Result = TypeVar("Result")
Report = Callable[[int], None]


def check_workers(count: int) -> None:
    """Refuse a number of processes that makes no sense.

    Raises:
        RecipeError: it is not 1 to `MOST_WORKERS`.
    """
    if not 1 <= count <= MOST_WORKERS:
        raise RecipeError(f"--workers is a number of processes from 1 to {MOST_WORKERS}, not {count}")


@dataclass(eq=False)
class _Worker:
    """A process, the parent's end of its pipe, and the number of the job in hand."""

    process: BaseProcess
    pipe: Connection
    job: int = 0


class RecordingWorkers:
    """At most so many processes, started when there is work. As a context manager it ends them, also on Ctrl-C.

    Args:
        count: number of processes.
        say: takes a sentence when a process died and its recording is done again.
    """

    def __init__(self, count: int, say: Callable[[str], None]) -> None:
        check_workers(count)
        self._count, self._say = count, say
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, _Worker] = {}

    def __enter__(self) -> RecordingWorkers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end([*self._idle, *self._busy.values()])
        self._idle.clear()
        self._busy.clear()

    def run(
        self, task: Callable[[AnyJob, Report], Result], jobs: Sequence[AnyJob], progress: Report | None = None
    ) -> Generator[tuple[int, Result], None, None]:
        """Do each job once, and yield its number and result as they come.

        A job whose process died is done again, once. Who stops iterating ends the processes that are at work.

        Args:
            task: function of a module; it takes a job, and what it calls with the number of things done so far.
            jobs: the jobs, at most one of each recording.
            progress: called with the number of things done over all jobs.

        Raises:
            DataError: a recording cannot be read, or its process died twice.
        """
        waiting, tries, done = deque(range(len(jobs))), [0] * len(jobs), [0] * len(jobs)
        try:
            while waiting or self._busy:
                while waiting and len(self._busy) < self._count:
                    self._give(task, jobs, waiting.popleft())
                for pipe in wait(list(self._busy)):
                    worker = self._busy[pipe]  # type: ignore[index]
                    kind, value = _received(worker.pipe)
                    if kind == "progress":
                        done[worker.job] = value
                        if progress is not None:
                            progress(sum(done))
                        continue
                    del self._busy[worker.pipe]
                    if kind == "died":
                        _end([worker])
                        tries[worker.job] += 1
                        self._again(jobs[worker.job].path, tries[worker.job])
                        waiting.append(worker.job)
                        continue
                    self._idle.append(worker)
                    if kind == "refused":
                        raise DataError(value)
                    if kind == "failed":
                        raise RuntimeError(f"a worker failed on '{jobs[worker.job].path}':\n{value}")
                    yield worker.job, value
        finally:
            _end(list(self._busy.values()))
            self._busy.clear()

    def _give(self, task: Callable[[AnyJob, Report], Result], jobs: Sequence[AnyJob], number: int) -> None:
        worker = self._idle.pop() if self._idle else _start()
        worker.job = number
        self._busy[worker.pipe] = worker
        with suppress(OSError):  # it died while it was idle: reading from it tells so
            worker.pipe.send((task, jobs[number]))

    def _again(self, path: Path, tries: int) -> None:
        if tries >= _TRIES:
            raise DataError(
                f"the process that read '{path}' was ended from outside {tries} times, as the kernel does when memory "
                "runs out; give fewer --workers, or leave that recording out"
            )
        self._say(f"the process that read '{path}' was ended from outside; the recording is done again")


def _start() -> _Worker:
    context = multiprocessing.get_context("spawn")  # forked processes would share threads and locks with this one
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    # Ctrl-C goes to every process of a terminal. The mask is inherited: this process alone hears it, and ends the rest.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return _Worker(process, ours)


def _received(pipe: Connection) -> tuple[str, Any]:
    try:
        kind, value = pipe.recv()
    except (EOFError, OSError):
        return "died", None
    return kind, value


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.pipe.close()
        worker.process.terminate()
    for worker in workers:
        worker.process.join(_PATIENCE_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _work(pipe: Connection) -> None:
    """Do jobs until the other end is closed."""
    import cv2

    signal.signal(signal.SIGTERM, _leave)
    keep_big_buffers()
    cv2.setNumThreads(1)  # the processes share the cores already
    with suppress(EOFError, OSError):  # the parent has ended
        while True:
            task, job = pipe.recv()
            pipe.send(outcome(task, job, lambda done: pipe.send(("progress", done))))


def outcome(task: Callable[[Any, Report], Any], job: Any, report: Report) -> tuple[str, Any]:
    """Do a job, where it is done: what became of it (`done`, `refused`, `failed`), and its result or the sentence."""
    try:
        return "done", task(job, report)
    except HrdaError as error:
        return "refused", str(error)
    except BrokenPipeError:
        raise
    except Exception:
        return "failed", traceback.format_exc()


def _leave(number: int, frame: object) -> NoReturn:
    sys.exit(1)  # as an exception, so that unpacked files are removed on the way
