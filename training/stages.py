"""What commands of several stages, one of them a training, share: their progress, and how they are stopped."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hrda_core.trainer.journal import Progress

__all__ = ["StagePrinter", "StopRequest"]


class StagePrinter:
    """Progress: overwritten on a terminal, elsewhere a line in a while."""

    def __init__(self) -> None:
        self._begin: float | None = None
        self._first, self._last = 0, 0.0

    def say(self, text: str) -> None:
        """A line of its own."""
        print(text, file=sys.stderr, flush=True)

    def count(self, what: str, done: int, total: int) -> None:
        """Of a stage that counts."""
        self._show(f"{done}/{total} {what}", last=done >= total)

    def step(self, progress: Progress) -> None:
        """Of the training, with the time that is left."""
        now = time.monotonic()
        if self._begin is None:
            self._begin, self._first = now - progress.seconds - progress.wait_seconds, progress.iteration - 1
        pace = (now - self._begin) / (progress.iteration - self._first)
        left = pace * (progress.iterations - progress.iteration)
        quality = progress.metrics.get("pseudo_weight")
        text = f"step {progress.iteration}/{progress.iterations}  loss {progress.loss:.3f}"
        text += "" if quality is None else f"  pseudo-label weight {quality:.2f}"
        text += f"  {left / 60:.0f} min {left % 60:.0f} s left"
        self._show(text, last=progress.iteration == progress.iterations, every=progress.iteration % 20 == 0)

    def _show(self, text: str, *, last: bool, every: bool = False) -> None:
        now = time.monotonic()
        if sys.stderr.isatty():
            print(f"\r{text}   ", end="\n" if last else "", file=sys.stderr, flush=True)
        elif last or every or now - self._last > 30:
            self._last = now
            print(text, file=sys.stderr, flush=True)


class StopRequest:
    """Turns Ctrl-C and SIGTERM in the training into "finish this step, write a checkpoint"; elsewhere they end at once.

    The other stages leave whole files, so that nothing is lost by an end at any line. A second Ctrl-C always ends.
    """

    def __init__(self) -> None:
        self._asked = self._training = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ask)

    def __call__(self) -> bool:
        return self._asked

    def seen(self, progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
        """`progress`, and whether the training goes on after that step."""

        def call(step: Progress) -> None:
            self._training = step.iteration < step.iterations
            progress(step)

        return call

    def _ask(self, number: int, frame: object) -> None:
        if self._asked or not self._training:
            raise KeyboardInterrupt
        self._asked = True
