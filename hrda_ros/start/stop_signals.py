"""SIGINT and SIGTERM are noted where they come and obeyed where that is safe, and they end the process in any case.

SIGHUP, of a terminal that is closed or an ssh whose network is gone, is as SIGTERM, unless the process was started by
`nohup`. Without a handler it would end the process where it stands, and leave the middleware's shared memory behind.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType

__all__ = ["LONGEST_END_S", "StopSignals", "end_if_hanging"]

_BACK_END_THREADS = "hrda-"  # how the names of the threads begin that call a back end
_NUMBERS = (signal.SIGINT, signal.SIGTERM)

LONGEST_END_S = 1.5
"""From a signal to the end of the process where something hangs: two seconds, less what a busy machine adds."""

_LONGEST_LAST_S = 10.0
"""From the end of all work to the end of the process: libraries take down what they have, and may hang in it."""


class StopSignals:
    """From its creation on this process notes SIGINT and SIGTERM and raises nothing; `seen` says whether one has come.

    Python's own handler would raise KeyboardInterrupt at any line. In the middle of `import cv2` such an exception is
    swallowed, and in the middle of rclpy's constructors it ends in a traceback. rclpy installs handlers of its own
    later, which shut its context down, and calls these ones after that.

    It is a context manager for the work of the whole process. After the block both signals are ignored: while Python
    ends, it would give them back to the system, and one more signal would end the process with -2 or -15. So that
    nothing can hang there for ever, an alarm of the system ends it some seconds later, with -14.

    Attributes:
        seen: whether a signal has come.
    """

    def __init__(self) -> None:
        self.seen = False
        for number in _NUMBERS:
            signal.signal(number, self._note)
        if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            signal.signal(signal.SIGHUP, _as_sigterm)

    def __enter__(self) -> StopSignals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in (*_NUMBERS, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, _LONGEST_LAST_S)

    def end_soon(self) -> None:
        """From now on let this process end with exit code 0 within `LONGEST_END_S` of the first signal.

        That holds whatever hangs in it, also a module in the middle of its import; and where a signal has come already.

        A handler in Python would wait for the main thread, which may be the one that hangs in a back end. The bytes
        that Python writes for each signal do not, so a thread waits for them.
        """
        source, sink = os.pipe()
        os.set_blocking(sink, False)
        signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
        threading.Thread(target=_end_after, args=(source,), name="stop-signals", daemon=True).start()
        if self.seen:
            os.write(sink, bytes([signal.SIGINT]))

    def _note(self, number: int, frame: object) -> None:
        self.seen = True


def end_if_hanging(code: int) -> None:
    """End the process at once with this exit code if a thread is still in a back end; otherwise do nothing.

    Step by step, as Python ends, native code of that thread would meet memory that is gone.
    """
    if any(thread.name.startswith(_BACK_END_THREADS) for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


def _as_sigterm(number: int, frame: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)  # as if it came from outside: rclpy has a handler of its own for that one


def _end_after(source: int) -> None:
    while (byte := os.read(source, 1)) and byte[0] not in (*_NUMBERS, signal.SIGHUP):
        pass
    time.sleep(LONGEST_END_S)
    os._exit(0)  # nothing is flushed: the thread that hangs may be writing
