"""Turns Ctrl-C and SIGTERM into a flag that is checked between steps.

It is a flag, not an exception out of the handler, so no step, such as starting a process and noting it, is ever cut in
two.
"""

from __future__ import annotations

import signal
from types import FrameType

from street_demo.errors import Interrupted

__all__ = ["Interruption"]


class Interruption:
    """Remembers that a stop was requested."""

    def __init__(self) -> None:
        self.asked = False

    def install(self) -> None:
        """Take over the stop signals of this process. Call it from the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def check(self) -> None:
        """Raise `Interrupted` if a stop was requested."""
        if self.asked:
            raise Interrupted

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
