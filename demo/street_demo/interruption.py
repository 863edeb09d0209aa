"""Ctrl-C and SIGTERM as a flag that is looked at between steps.

A flag, not an exception out of the handler: no step, such as starting a process and noting it, is ever cut in two.
"""

from __future__ import annotations

import signal
from types import FrameType

from street_demo.errors import Interrupted

__all__ = ["Interruption"]


class Interruption:
    """Remembers that a stop was asked for."""

    def __init__(self) -> None:
        self.asked = False

    def install(self) -> None:
        """Take over the stop signals of this process. Call it from the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def check(self) -> None:
        """Raise `Interrupted` when a stop was asked for."""
        if self.asked:
            raise Interrupted

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
