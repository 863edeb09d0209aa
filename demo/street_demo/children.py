"""The processes of the demo: they are started together, watched, and all ended whatever happens."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from street_demo.errors import ChildFailedError
from street_demo.events import Event, parse

__all__ = ["Child", "ChildGroup"]

STOP_TIMEOUT_S = 5.0
"""A process that does not end this long after SIGINT is killed."""
TAIL_LINES = 8
USER_MISTAKE = 2

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """One process with a log file. Events on its standard output go to the queue, other lines to the log."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, events: queue.Queue[Event]
    ) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as log_file:
            # A session of its own: Ctrl-C reaches the demo alone, which then ends its children in order.
            self.process = subprocess.Popen(
                command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log_file,
                text=True, errors="replace", start_new_session=True, preexec_fn=_end_with_parent,
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(events,), daemon=True)
        self._reader.start()

    def check(self) -> None:
        """Raise `ChildFailedError` when the process has ended."""
        exit_code = self.process.poll()
        if exit_code is None:
            return
        self._reader.join(timeout=1.0)
        how = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
        said = self.tail() or "it left no message"
        raise ChildFailedError(
            f"the {self.name} ended early with {how}; its last words:\n{said}",
            exit_code=USER_MISTAKE if exit_code == USER_MISTAKE else 1,
        )

    def tail(self) -> str:
        """Return the last lines of the log, indented."""
        lines = self._log.read_text("utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in [line for line in lines if line.strip()][-TAIL_LINES:])

    def ask_to_stop(self) -> None:
        """Send SIGINT to the process and what it started."""
        self._signal(signal.SIGINT)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait for the end, then end whatever is left of the process group; return the exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_s)
        self._signal(signal.SIGKILL)
        exit_code = self.process.wait()
        self._reader.join(timeout=1.0)
        return exit_code

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _read(self, events: queue.Queue[Event]) -> None:
        assert self.process.stdout is not None
        with self._log.open("a", encoding="utf-8") as log_file, self.process.stdout as lines:
            for line in lines:
                event = parse(line)
                if event is None:
                    log_file.write(line)
                    log_file.flush()
                else:
                    events.put(event)


class ChildGroup:
    """All processes of one run. Leaving the `with` block ends every one that still runs."""

    def __init__(self, environment: Mapping[str, str], logs: Path) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self._environment = environment
        self._logs = logs
        self._children: list[Child] = []

    def __enter__(self) -> ChildGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            child.ask_to_stop()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for child in self._children:
            child.wait(max(0.1, deadline - time.monotonic()))

    def start(self, name: str, command: Sequence[str]) -> Child:
        """Start a process. `name` is its name in messages and that of its log."""
        child = Child(name, command, self._environment, self._logs / f"{name.replace(' ', '_')}.log", self.events)
        self._children.append(child)
        return child

    def stop(self, child: Child) -> int:
        """End one process and return its exit code; a process that ended before counts as failed."""
        child.check()
        self._children.remove(child)
        child.ask_to_stop()
        return child.wait()

    def check(self) -> None:
        """Raise `ChildFailedError` when a process has ended."""
        for child in self._children:
            child.check()


def _end_with_parent() -> None:
    """Between fork and exec: have the kernel end this process when the demo is killed without a chance to clean up."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
