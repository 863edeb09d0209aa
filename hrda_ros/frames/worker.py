"""The thread that has the back end: it takes the frames of all cameras in turn. Needs no ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hrda_ros.frames.fair_slots import FairSlots

__all__ = ["Batch", "Lane", "Worker"]


class Lane(Protocol):
    """What the worker needs of a camera. `drop` and `settle` are called with the worker's lock held."""

    def attempt(self, frame: Any) -> Any:
        """Process a frame and return how that ended. It raises nothing."""
        ...

    def settle(self, ending: Any, offered_s: float, started_s: float) -> None:
        """Count a frame that was offered and started at these times."""
        ...

    def tell(self, ending: Any) -> None:
        """Report how a frame ended, after it was counted. It raises nothing."""
        ...

    def drop(self) -> None:
        """Count a frame that waited when the worker was stopped."""
        ...

    def reset_performance(self) -> None:
        """Forget rates and times."""
        ...

    def started(self) -> None:
        """The worker starts: frames come from now on."""
        ...


@dataclass(frozen=True)
class Batch:
    """Frames of several lanes that are processed together.

    Attributes:
        belong: whether a frame that waits goes with the one whose turn it is. It is called with the worker's lock held.
        run: processes two or more frames, each with its lane, and returns how each ended. It raises nothing.
    """

    belong: Callable[[Any, Any], bool]
    run: Callable[[Sequence[tuple[Any, Any]]], Sequence[Any]]


class Worker:
    """One thread for the frames of several lanes.

    Args:
        clock: monotonic seconds.

    Attributes:
        condition: the lock of the worker and of the counters of all its lanes.
        batch: which frames are processed together; None = each alone. Set it while the worker is stopped.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.condition = threading.Condition()
        self.batch: Batch | None = None
        self._clock = clock
        self._lanes: list[Lane] = []
        self._slots: FairSlots[Lane, tuple[Any, float]] = FairSlots()
        self._at: tuple[Lane, ...] = ()
        self._at_since_s = 0.0
        self._accepting = False
        self._thread: threading.Thread | None = None
        self._given_up: threading.Thread | None = None

    def add(self, lane: Lane) -> None:
        """Take frames of this lane too."""
        with self.condition:
            self._lanes.append(lane)
            self._slots.add(lane)

    def put(self, lane: Lane, frame: Any, now_s: float) -> str:
        """Let a frame wait; the caller holds the lock.

        Returns:
            `deactivated` = the worker accepts no frame, `superseded` = an older one of this lane made room, empty = it
            waits.
        """
        if not self._accepting:
            return "deactivated"
        replaced = self._slots.put(lane, (frame, now_s))
        self.condition.notify_all()
        return "" if replaced is None else "superseded"

    def in_flight(self, lane: Lane) -> int:
        """Return how many frames of a lane wait or are in work, 0 to 2; the caller holds the lock."""
        return (lane in self._slots) + (lane in self._at)

    def busy_s(self, now_s: float) -> float:
        """Return for how long the frames in work are, whichever lanes', seconds; 0 = none is.

        The caller holds the lock. A back end that hangs keeps the frames of all lanes waiting, so this is the concern
        of each.
        """
        return 0.0 if not self._at else now_s - self._at_since_s

    def open(self) -> None:
        """Accept frames; without `start`, calls of `step` handle them."""
        with self.condition:
            self._accepting = True

    def start(self) -> None:
        """Accept frames and start the thread. Rates and times of all lanes start afresh, counters continue."""
        for lane in self._lanes:
            lane.reset_performance()
            lane.started()
        self.open()
        thread = threading.Thread(target=self._work, args=(self._given_up,), name="hrda-worker", daemon=True)
        self._thread = thread
        thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Drop the waiting frames, let the thread finish its frame, and join it.

        Returns:
            False if it is still busy after `timeout_s`; it ends by itself after its frame.
        """
        with self.condition:
            self._accepting = False
            for lane, _ in self._slots.clear():
                lane.drop()
            self.condition.notify_all()
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        thread.join(timeout_s)
        self._given_up = thread if thread.is_alive() else None
        return self._given_up is None

    def step(self) -> bool:
        """Wait for a frame and process it, and those that belong to it, until they are counted.

        Returns:
            False if the worker was stopped instead.
        """
        with self.condition:
            while (first := self._slots.take()) is None:
                if not self._accepting:
                    return False
                self.condition.wait()
            taken = [first, *self._of_batch(first[1][0])]
            self._at, self._at_since_s = tuple(lane for lane, _ in taken), self._clock()
            started_s = self._at_since_s
        counted = [(lane, offered_s) for lane, (_, offered_s) in taken]
        endings = self._attempt([(lane, frame) for lane, (frame, _) in taken])
        del first, taken  # frees megabytes before the next wait
        with self.condition:
            self._at = ()
            for (lane, offered_s), ending in zip(counted, endings, strict=True):
                lane.settle(ending, offered_s, started_s)
            self.condition.notify_all()
        for (lane, _), ending in zip(counted, endings, strict=True):
            lane.tell(ending)
        return True

    def _of_batch(self, first: Any) -> list[tuple[Lane, tuple[Any, float]]]:
        """Frames of other lanes that go with one, in the order of their turns; the caller holds the lock."""
        batch = self.batch
        if batch is None:
            return []
        return self._slots.take_all(lambda lane, waiting: batch.belong(first, waiting[0]), most=len(self._lanes))

    def _attempt(self, frames: Sequence[tuple[Lane, Any]]) -> Sequence[Any]:
        if self.batch is None or len(frames) == 1:
            return [lane.attempt(frame) for lane, frame in frames]
        return self.batch.run(frames)

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until no frame is in flight; return False if that takes longer than `timeout_s`."""
        with self.condition:
            return self.condition.wait_for(lambda: not self._slots and not self._at, timeout_s)

    def _work(self, given_up: threading.Thread | None) -> None:
        if given_up is not None:
            given_up.join()  # two threads must never be in one back end, however long the first one hangs
        # A worker that `stop` gave up on must not go on beside the one of the next `start`.
        while self._thread is threading.current_thread() and self.step():
            pass
