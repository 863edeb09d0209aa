"""What becomes of the masks of a node that places them in space, and its verdict once a second. Needs no rclpy.

The level is the first of these that applies:

    ERROR    masks were left out in the last second, and none was placed
    WARN     masks were left out
    OK       nobody subscribes
    WARN     masks were placed, and there is a doubt about the classes or the depth
    OK       masks were placed
    WARN     nothing fits together; the text says which topic is silent or which stamps differ
    ERROR    all masks since the last one that was placed were left out
    OK       the next mask has not come yet
"""

from __future__ import annotations

__all__ = ["ERROR", "OK", "WARN", "Tally"]

OK, WARN, ERROR = 0, 1, 2
"""Levels of `diagnostic_msgs/DiagnosticStatus`."""


class Tally:
    """Counts of one node.

    Attributes:
        placed, left_out: masks since the start.
        reason: why the last one was left out.
        silence: why nothing fits together; empty while something does.
        doubt: why what is placed may be wrong, or useless; empty where nothing speaks for that.
    """

    def __init__(self) -> None:
        self.placed = self.left_out = 0
        self.reason = self.silence = self.doubt = ""
        self._row = 0
        self._before = (0, 0)

    def place(self) -> None:
        """Count a mask that was placed."""
        self.placed += 1
        self._row = 0
        self.silence = ""

    def leave_out(self, reason: str) -> None:
        """Count a mask that was left out."""
        self.left_out += 1
        self._row += 1
        self.reason = reason

    def verdict(self, wanted: bool) -> tuple[int, str]:
        """Return the level and one line about the time since the last call.

        Args:
            wanted: whether anybody subscribes to an output.
        """
        placed, left_out = self.placed - self._before[0], self.left_out - self._before[1]
        self._before = (self.placed, self.left_out)
        if left_out:
            return WARN if placed else ERROR, f"{left_out} mask(s) left out: {self.reason}"
        if not wanted:
            self._row = 0
            return OK, "nobody subscribes"
        if placed:
            doubt = f", but {self.doubt}" if self.doubt else ""
            return WARN if doubt else OK, f"{placed} mask(s) placed{doubt}"
        if self.silence:
            return WARN, f"nothing to publish: {self.silence}"
        if self._row:  # masks may be rarer than reports: all bad, one every two seconds, is not well every other second
            return ERROR, f"the last {self._row} mask(s) were left out: {self.reason}"
        return OK, "waiting for masks"
