"""Progress of an engine build, which takes minutes on a Jetson, as values and as lines for a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["BuildProgress", "Progress", "heartbeat", "log_lines"]


@dataclass(frozen=True)
class BuildProgress:
    """The state of a build.

    Attributes:
        phase: current phase, in TensorRT's words.
        parent: the phase around it; empty for an outermost one.
        done, total: steps of the phase; total 0 = not known (TensorRT before 10 does not say).
        elapsed_s: seconds since the build began.
    """

    phase: str
    parent: str
    done: int
    total: int
    elapsed_s: float

    def __str__(self) -> str:
        steps = f" {self.done} of {self.total}," if self.total else ""
        return f"building the engine: {self.phase},{steps} {self.elapsed_s:.0f} s so far"


Progress: TypeAlias = Callable[[BuildProgress], None]
"""Called from TensorRT's threads. An exception that it raises stops the build and reaches the caller."""


def log_lines(say: Callable[[str], None], every_s: float = 5.0) -> Progress:
    """Report progress as lines of text, at most one in `every_s` seconds; for logs and the node."""
    last = time.monotonic()

    def report(step: BuildProgress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every_s:
            last = now
            say(str(step))

    return report


@contextmanager
def heartbeat(progress: Progress, phase: str, every_s: float = 5.0) -> Iterator[None]:
    """Report `phase` and the time that it has taken every `every_s` seconds, while the `with` block runs."""
    begin, stop = time.monotonic(), threading.Event()
    errors: list[BaseException] = []

    def beat() -> None:
        while not stop.wait(every_s):
            try:
                progress(BuildProgress(phase, "", 0, 0, time.monotonic() - begin))
            except BaseException as error:  # noqa: PERF203  # TensorRT 8.6 cannot be stopped: raised after the build
                errors.append(error)
                return

    thread = threading.Thread(target=beat, name="engine build progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]
