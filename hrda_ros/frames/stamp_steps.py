"""Tells a clock that steps back, such as that of a bag that loops, from two clocks on one topic. Needs no ROS."""

from __future__ import annotations

__all__ = ["StampSteps"]

_STEP_BACK_S = 0.5
"""Stamps of two cameras on one topic may interleave; a bag that starts over jumps back further. Seconds."""
_STEP_FORWARD_S = 60.0
"""A stamp that is further ahead is of another clock, seconds."""
_CLOCKS = 8


class StampSteps:
    """Follows the stamps of the images of a topic, whose publishers need not share a clock."""

    def __init__(self) -> None:
        self._last_s: list[float] = []  # of each clock; that of the last image first

    def back_s(self, stamp_s: float) -> float:
        """Take the stamp of the next image; return by how much time was set back, seconds, 0 = it was not.

        A stamp that goes on where an earlier one of another clock was is no step back.
        """
        before = self._last_s[0] if self._last_s else float("-inf")
        near = [last_s for last_s in self._last_s if -_STEP_BACK_S <= stamp_s - last_s <= _STEP_FORWARD_S]
        if near:
            self._last_s.remove(min(near, key=lambda last_s: abs(stamp_s - last_s)))
            self._last_s.insert(0, stamp_s)
            return 0.0
        self._last_s = [stamp_s, *self._last_s[: _CLOCKS - 1]]
        return max(0.0, before - stamp_s)
