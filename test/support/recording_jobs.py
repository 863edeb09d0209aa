"""A job for the processes of `RecordingWorkers`, in a module that they import."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hrda_core.errors import DataError


@dataclass(frozen=True)
class Job:
    path: Path
    deaths: int = 0
    """How often the process is killed that has it in hand."""

    @property
    def places(self) -> tuple[Path, ...]:
        return (self.path.parent,)


def work(job: Job, report: Callable[[int], None]) -> str:
    """Leave a file for each call, report twice, and be killed as often as the job says."""
    calls = len(list(job.path.parent.glob(f"{job.path.name}.call*")))
    job.path.with_name(f"{job.path.name}.call{calls}").touch()
    report(1)
    if calls < job.deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    if job.path.name == "refused":
        raise DataError("'refused' cannot be read")
    report(2)
    return job.path.name
