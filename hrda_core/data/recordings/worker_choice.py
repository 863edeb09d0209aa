"""Which workers read recordings: processes of this machine, or those of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hrda_core.data.recordings.dask_workers import DaskWorkers, check_address
from hrda_core.data.recordings.recording_workers import AnyJob, RecordingWorkers, Report, Result, check_workers
from hrda_core.errors import RecipeError

__all__ = ["WorkerChoice", "Workers"]


class Workers(Protocol):
    """What does jobs on recordings elsewhere: see `RecordingWorkers` and `DaskWorkers`."""

    def run(
        self, task: Callable[[AnyJob, Report], Result], jobs: Sequence[AnyJob], progress: Report | None = None
    ) -> Generator[tuple[int, Result], None, None]:
        """Do each job once, and yield its number and result as they come."""


@dataclass(frozen=True)
class WorkerChoice:
    """The options `--workers` and `--dask`.

    Attributes:
        count: number of processes.
        dask: address of a dask scheduler; empty = processes of this machine.

    Raises:
        RecipeError: the number or the address makes no sense, or both are given.
    """

    count: int = 1
    dask: str = ""

    def __post_init__(self) -> None:
        check_workers(self.count)
        if self.dask:
            check_address(self.dask)
            if self.count != 1:
                raise RecipeError("--workers starts processes here, --dask uses a cluster that runs; leave one out")

    def open(self, say: Callable[[str], None]) -> AbstractContextManager[Workers]:
        """Return the workers; entering connects to a cluster, and starts no process yet.

        Args:
            say: takes a sentence when a worker died.
        """
        return DaskWorkers(self.dask, say) if self.dask else RecordingWorkers(self.count, say)

    def paths(self, paths: Sequence[Path]) -> tuple[Path, ...]:
        """Return paths as the workers find them, which run in folders of their own."""
        return tuple(path.absolute() if self.dask else path for path in paths)

    def help_with(self, recordings: int) -> bool:
        """Return whether so many recordings are read by the workers, and not by this process."""
        return bool(self.dask) or (self.count > 1 and recordings > 1)
