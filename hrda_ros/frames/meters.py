"""Rates and percentiles over the last frames, for diagnostics.

There is no clock inside: callers pass times in seconds.
"""

from __future__ import annotations

from collections import deque

import numpy as np

__all__ = ["Percentiles", "RateMeter"]


class RateMeter:
    """Measures events a second over a sliding window.

    Args:
        window_s: length of the window, seconds; older events are forgotten.
    """

    def __init__(self, window_s: float = 5.0) -> None:
        self._window_s = window_s
        self._times: deque[float] = deque()

    def add(self, now_s: float) -> None:
        """Note one event."""
        self._times.append(now_s)
        self._forget(now_s)

    def rate(self, now_s: float) -> float:
        """Return the events a second in the window that ends at `now_s`; 0.0 with fewer than two events."""
        self._forget(now_s)
        intervals = len(self._times) - 1
        if intervals < 1:
            return 0.0
        span = self._times[-1] - self._times[0]
        if now_s - self._times[-1] > 2 * span / intervals:
            span = now_s - self._times[0]  # the stream has stopped or slowed down: let the rate decay
        return intervals / span if span > 0 else 0.0

    def clear(self) -> None:
        """Forget all events."""
        self._times.clear()

    def _forget(self, now_s: float) -> None:
        while self._times and self._times[0] < now_s - self._window_s:
            self._times.popleft()


class Percentiles:
    """Computes p50 and p95 of the last values.

    Args:
        capacity: number of values that are kept.
    """

    def __init__(self, capacity: int = 200) -> None:
        self._values: deque[float] = deque(maxlen=capacity)

    def add(self, value: float) -> None:
        """Note one value."""
        self._values.append(value)

    def summary(self) -> tuple[float, float] | None:
        """Return (p50, p95) of the values that are kept; None before the first value."""
        if not self._values:
            return None
        p50, p95 = np.percentile(np.asarray(self._values), (50, 95))
        return float(p50), float(p95)

    def clear(self) -> None:
        """Forget all values."""
        self._values.clear()
