"""Shows the user the progress of the demo: a line for each stage, and a live frame counter."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["Progress"]

PLAIN_PERIOD_S = 5.0
"""Period of the counter's lines where the output is a file or a pipe."""


class Progress:
    """Writes stages and the counter to a stream.

    Args:
        stages: number of stages in all.
        stream: where to write; None = standard output.
    """

    def __init__(self, stages: int, stream: TextIO | None = None) -> None:
        self._stages = stages
        self._stream = sys.stdout if stream is None else stream
        self._live = self._stream.isatty()
        self._stage = 0
        self._line_open = False
        self._last_plain = 0.0
        self._last_text = ""

    def stage(self, text: str) -> None:
        """Begin the next stage."""
        self._stage += 1
        self.say(f"[{self._stage}/{self._stages}] {text}")

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self.close()
        print(text, file=self._stream, flush=True)

    def count(self, text: str, *, last: bool = False) -> None:
        """Show the counter: in place on a terminal, else as a line every few seconds and at the end."""
        if self._live:
            print(f"\r      {text}\x1b[K", end="", file=self._stream, flush=True)
            self._line_open = True
        elif text != self._last_text and (last or time.monotonic() - self._last_plain >= PLAIN_PERIOD_S):
            self._last_plain, self._last_text = time.monotonic(), text
            self.say(f"      {text}")
        if last:
            self.close()

    def close(self) -> None:
        """End the line that the counter has begun."""
        if self._line_open:
            print(file=self._stream, flush=True)
            self._line_open = False
