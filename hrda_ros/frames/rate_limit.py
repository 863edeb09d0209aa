"""Chooses the frames that a limit on the rate lets through. Needs no ROS.

It is the generic cell rate algorithm: a schedule goes on by one period with each frame that passes, and a frame passes
if it is not ahead of the schedule by more than one period. So a camera that is a little faster than the limit, or
jitters around it, keeps the whole rate, which a plain "not before one period is over" would halve.
"""

from __future__ import annotations

__all__ = ["RateLimit"]


_LONGEST_S = 1e9
"""A period at most, seconds: the reciprocal of the smallest numbers is infinite, which no schedule could keep."""


class RateLimit:
    """Lets through at most so many frames a second, evenly spread. There is no clock inside: callers pass times."""

    def __init__(self) -> None:
        self._rate_hz, self._due_s = 0.0, float("-inf")

    def passes(self, now_s: float, rate_hz: float) -> bool:
        """Return whether a frame may pass now; if so, it is counted.

        In any time of T seconds at most T x rate_hz + 2 frames pass.

        Args:
            now_s: monotonic seconds.
            rate_hz: the limit, frames a second; 0 = no limit. Another one than before starts a schedule of its own.
        """
        if rate_hz != self._rate_hz:
            self._rate_hz, self._due_s = rate_hz, float("-inf")
        if rate_hz <= 0:
            return True
        period_s = min(1 / rate_hz, _LONGEST_S)
        if now_s < self._due_s - period_s:
            return False
        self._due_s = max(self._due_s, now_s) + period_s
        return True
