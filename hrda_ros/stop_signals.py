"""SIGINT and SIGTERM are noted where they come and obeyed where that is safe."""

from __future__ import annotations

import signal

__all__ = ["StopSignals"]


class StopSignals:
    """From its creation on this process notes SIGINT and SIGTERM and raises nothing; `seen` says whether one has come.

    Python's own handler would raise KeyboardInterrupt at any line. In the middle of `import cv2` such an exception is
    swallowed, and in the middle of rclpy's constructors it ends in a traceback. rclpy installs handlers of its own
    later, which shut its context down, and calls these ones after that.

    Attributes:
        seen: whether a signal has come.
    """

    def __init__(self) -> None:
        self.seen = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.seen = True
