"""Prints the progress of all commands to stderr: one live line on a terminal, in a log a line from time to time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from hrda_core.inference.say import Level

if TYPE_CHECKING:
    from hrda_core.inference.tensorrt.progress import BuildProgress
    from hrda_core.trainer.journal import Progress

__all__ = ["ProgressPrinter"]


class ProgressPrinter:
    """Prints what a command does and its progress. As a context manager it ends the live line, also after an error.

    Args:
        log_every_s: if stderr is no terminal, seconds before the first line of a stage, and between two lines.
    """

    def __init__(self, log_every_s: float = 30.0) -> None:
        self._log_every_s = log_every_s
        self._what = ""
        self._bar: Any = None

    def __enter__(self) -> ProgressPrinter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def say(self, text: str, level: Level = Level.INFO, /) -> None:
        """Print a line of its own; a live line continues below it."""
        if level == Level.WARNING:
            text = f"warning: {text}"
        if self._bar is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bar.write(text, file=sys.stderr)

    def count(self, what: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` things are finished.

        One kind of things is a stage; the next kind ends it.

        Args:
            what: the things in the plural, for example `images`.
            done: number of things that are finished.
            total: number of all; 0 = not known.
            note: text to show with the count.
        """
        if self._bar is not None and (what != self._what or done < self._bar.n):
            self.close()
        if self._bar is None:
            if 0 < total <= done:
                return  # a stage of one moment, or one that has been closed
            self._bar, self._what = self._open(what, done, total), what
        self._bar.total, self._bar.n = total or None, done
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(0)  # draws only if the last time is long enough ago
        if 0 < total <= done:
            self.close()

    def counter(self, what: str) -> Callable[[int, int], None]:
        """Return `count` of one kind of things, as a function of `done` and `total`."""
        return partial(self.count, what)

    def step(self, progress: Progress) -> None:
        """Show a finished step of a training."""
        weight = progress.metrics.get("pseudo_weight")
        sure = "" if weight is None else f", pseudo-label weight {weight:.2f}"
        self.count("iterations", progress.iteration, progress.iterations, f"loss {progress.loss:.3f}{sure}")

    def build(self, step: BuildProgress) -> None:
        """Show a step of the build of a TensorRT engine; an inner phase becomes a note to the outermost one."""
        if not step.parent:
            self.count(f"steps of {step.phase}", step.done, step.total)
        elif self._bar is not None:
            self._bar.set_postfix_str(step.phase, refresh=False)
            self._bar.update(0)

    def close(self) -> None:
        """End the live line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _open(self, what: str, done: int, total: int) -> Any:
        try:
            from tqdm import tqdm
        except ImportError:  # as on a robot: the work is done without being watched
            return _Nothing(done)
        tqdm.monitor_interval = 0  # no thread of its own: processes that load data are forked
        values = {"desc": what, "total": total or None, "initial": done, "miniters": 0, "smoothing": 0}
        if sys.stderr.isatty():
            return tqdm(**values, unit="", file=sys.stderr, dynamic_ncols=True)
        of_all = "/{total_fmt} {desc}, {remaining} left" if total else " {desc}"
        line = "{n_fmt}" + of_all + ", {elapsed} so far{postfix}"
        return tqdm(**values, file=_Log(), bar_format=line, mininterval=self._log_every_s, delay=self._log_every_s)


class _Nothing:
    """In the place of a live line where the package tqdm is missing."""

    def __init__(self, done: int) -> None:
        self.n, self.total = done, 0

    def set_postfix_str(self, note: str, *, refresh: bool) -> None:
        """Show nothing."""

    def update(self, more: int) -> None:
        """Show nothing."""

    def write(self, text: str, file: TextIO) -> None:
        """Print a line."""
        print(text, file=file, flush=True)

    def close(self) -> None:
        """There is nothing to end."""


class _Log:
    """What tqdm overwrites on a terminal, as one line after the other."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=sys.stderr, flush=True)

    def flush(self) -> None:
        """Nothing waits."""
