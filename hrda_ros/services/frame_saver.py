"""Keeps the next frame for a bug report: what came in, what went out, and what was in force. Needs no ROS.

A request waits for the next frame that is worked on. The worker lends that frame to a `Shot` while it goes through; a
thread of its own then writes it, so masks are not held up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.errors import reason_of
from hrda_core.inference import Prediction
from hrda_ros.frames.pipeline import StaleFrameError
from hrda_ros.model.hot_swap import Outcome

__all__ = ["FrameSaver", "Shot"]


@dataclass
class Shot:
    """One frame on its way.

    Attributes:
        message: the camera message.
        about: what was in force: parameters, model, and so on; plain values.
        rgb: uint8 (H, W, 3), the picture; None if the message was refused.
        prediction: its masks; None if there are none.
        error: why it was refused or failed; empty if its masks went out.
        manifest: manifest file of the model; None if it has none.
    """

    message: Any
    about: dict[str, Any] = field(default_factory=dict)
    rgb: npt.NDArray[np.uint8] | None = None
    prediction: Prediction | None = None
    error: str = ""
    manifest: Path | None = None

    def saw(self, rgb: npt.NDArray[np.uint8]) -> None:
        """Keep a copy of the picture, since its memory may be the message's or be written again."""
        self.rgb = rgb.copy()


@dataclass(eq=False)
class _Request:
    write: Callable[[Shot], str]
    done: Callable[[Outcome], None]
    timer: threading.Timer | None = None


class FrameSaver:
    """Takes requests from any thread and frames from one worker at a time.

    Args:
        timeout_s: a request that no frame has met for so long has failed, seconds.
    """

    def __init__(self, timeout_s: float = 5.0) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._waiting: _Request | None = None

    @property
    def waits(self) -> bool:
        """Whether a request waits for a frame."""
        return self._waiting is not None

    def request(self, write: Callable[[Shot], str], done: Callable[[Outcome], None]) -> None:
        """Ask for the next frame.

        Args:
            write: writes it and returns one sentence for the caller; runs in a thread of its own and may raise.
            done: called once with the result, in any thread.
        """
        request = _Request(write, done)
        with self._lock:
            refused = self._waiting is not None
            if not refused:
                self._waiting = request
                request.timer = threading.Timer(self._timeout_s, self._give_up, (request, self._no_frame()))
                request.timer.daemon = True
                request.timer.start()
        if refused:
            done(Outcome(False, "another call waits for the next frame; call again when it has been answered"))

    def drop(self, reason: str) -> None:
        """Answer a request that waits with a failure."""
        request = self._waiting
        if request is not None:
            self._give_up(request, reason)

    @contextmanager
    def frame(self, message: Any) -> Iterator[Shot | None]:
        """Yield a shot to fill if a request waits, else None. A frame that is dropped as stale leaves it waiting."""
        request = self._waiting
        if request is None:
            yield None
            return
        shot = Shot(message)
        try:
            yield shot
        except StaleFrameError:
            raise
        except Exception as error:
            shot.error = reason_of(error)
            self._hand_over(request, shot)
            raise
        self._hand_over(request, shot)

    def _hand_over(self, request: _Request, shot: Shot) -> None:
        if self._claim(request):
            threading.Thread(target=self._write, args=(request, shot), name="hrda-save", daemon=True).start()

    def _give_up(self, request: _Request, reason: str) -> None:
        if self._claim(request):
            request.done(Outcome(False, reason))

    def _claim(self, request: _Request) -> bool:
        """Whether the caller is the one who answers the request."""
        with self._lock:
            if self._waiting is not request:
                return False
            self._waiting = None
        if request.timer is not None:
            request.timer.cancel()
        return True

    @staticmethod
    def _write(request: _Request, shot: Shot) -> None:
        try:
            outcome = Outcome(True, request.write(shot))
        except Exception as error:  # whatever the disk or a library says, the caller gets its answer
            outcome = Outcome(False, f"the frame was not saved: {reason_of(error)}")
        request.done(outcome)

    def _no_frame(self) -> str:
        return (
            f"no frame was worked on within {self._timeout_s:g} s; see /diagnostics for why, and call again when there "
            f"are images"
        )
