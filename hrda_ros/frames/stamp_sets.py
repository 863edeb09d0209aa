"""Brings messages of several topics together that carry the same stamp. Needs no rclpy."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, TypeAlias

__all__ = ["Stamp", "StampSets", "stamp_of"]

Stamp: TypeAlias = "tuple[int, int]"
"""Seconds and nanoseconds of a message header."""


def stamp_of(header: Any) -> Stamp:
    """Return the stamp of a `std_msgs/Header`."""
    return header.stamp.sec, header.stamp.nanosec


class StampSets:
    """Waits for one message of each topic with the same stamp. Any thread may call it.

    When a set is complete, it and whatever came before its members are forgotten: outputs stay in order.

    Args:
        names: the topics, by any name.
        keep: messages of a topic that wait at most; the oldest one makes room.
    """

    def __init__(self, names: Iterable[str], keep: int) -> None:
        self._waiting: dict[str, dict[Stamp, Any]] = {name: {} for name in names}
        self._keep = keep
        self._lock = threading.Lock()
        self._offered = dict.fromkeys(self._waiting, 0)
        self._newest: dict[str, Stamp] = {}
        self._completed = 0

    def offer(self, name: str, stamp: Stamp, message: Any) -> dict[str, Any] | None:
        """Take a message; return the set by topic if it is the last that was missing, else None."""
        with self._lock:
            waiting = self._waiting[name]
            waiting.pop(stamp, None)  # one that comes twice counts as new
            waiting[stamp] = message
            self._offered[name] += 1
            self._newest[name] = stamp
            if not all(stamp in messages for messages in self._waiting.values()):
                while len(waiting) > self._keep:
                    del waiting[next(iter(waiting))]
                return None
            self._completed += 1
            return {topic: self._take(messages, stamp) for topic, messages in self._waiting.items()}

    @staticmethod
    def _take(messages: dict[Stamp, Any], stamp: Stamp) -> Any:
        while True:
            oldest = next(iter(messages))
            message = messages.pop(oldest)
            if oldest == stamp:
                return message

    def waiting(self) -> dict[str, int]:
        """Return how many messages of each topic wait."""
        with self._lock:
            return {name: len(messages) for name, messages in self._waiting.items()}

    def clear(self) -> None:
        """Forget all messages."""
        with self._lock:
            for messages in self._waiting.values():
                messages.clear()

    def look_back(self) -> str:
        """Return what has kept sets from being complete since the last look, in one sentence; empty = nothing has."""
        with self._lock:
            offered, completed = self._offered, self._completed
            self._offered, self._completed = dict.fromkeys(self._waiting, 0), 0
            newest = dict(self._newest)
        if completed:
            return ""
        silent = [name for name, count in offered.items() if not count]
        came = [f"{name} {count}" for name, count in offered.items() if count]
        if silent:
            return f"nothing came on {' and '.join(silent)}" + (f" ({', '.join(came)})" if came else "")
        stamps = ", ".join(f"{name} {newest[name][0]}.{newest[name][1]:09d}" for name in offered)
        return f"messages came ({', '.join(came)}), but no stamp was the same on all topics; the newest: {stamps}"
