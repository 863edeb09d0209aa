"""Processes the newest frame: a one-element slot, one worker thread, and five counters that account for every frame.

Needs no ROS. Every frame offered ends in exactly one counter:

    published    its masks went out
    stale        nobody wanted it any more when its turn came (`StaleFrameError`: too old, no subscriber, deactivated)
    superseded   a newer frame took its place in the slot
    refused      the message cannot be used (`ImageError`, by its `cause`)
    failed       anything else went wrong, by exception class

At any moment `received` equals their sum plus at most two frames in flight: one in the slot, one in the worker.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from hrda_core.errors import ImageError
from hrda_ros.meters import Percentiles, RateMeter

__all__ = ["OUTCOMES", "Counts", "Performance", "Pipeline", "StaleFrameError"]

OUTCOMES = ("published", "stale", "superseded", "refused", "failed")

FrameT = TypeVar("FrameT")


class StaleFrameError(Exception):
    """The processing function raises it for a frame that is no longer wanted. `cause` is a short stable key."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


@dataclass(frozen=True)
class Counts:
    """What became of the frames, at one moment.

    Attributes:
        received: number of frames offered.
        in_flight: number of frames in the slot or in the worker, 0 to 2.
        causes: (outcome, cause) to count, for stale, refused and failed.
    """

    received: int
    published: int
    stale: int
    superseded: int
    refused: int
    failed: int
    in_flight: int
    causes: Mapping[tuple[str, str], int]


@dataclass(frozen=True)
class Performance:
    """Rates and durations over the last seconds.

    Attributes:
        received_hz, published_hz: frames a second.
        latency_s: name of a step to (p50, p95) in seconds. `wait` is the time in the slot, `total` the time from offer
            to published; the others come from the processing function.
    """

    received_hz: float
    published_hz: float
    latency_s: Mapping[str, tuple[float, float]]


class Pipeline(Generic[FrameT]):
    """Runs `process` on the newest frame offered, in a thread of its own.

    Args:
        process: handles one frame and returns the durations of its steps, seconds by name. It raises `StaleFrameError`
            for a stale frame, `ImageError` for a refused one, any other exception for a failed one.
        report: called with (outcome, cause, error) of every refused or failed frame, in the worker thread; what it
            raises is ignored.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        process: Callable[[FrameT], Mapping[str, float]],
        report: Callable[[str, str, Exception], None] = lambda outcome, cause, error: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._process = process
        self._report = report
        self._clock = clock
        self._condition = threading.Condition()
        self._slot: tuple[FrameT, float] | None = None
        self._busy = False
        self._accepting = False
        self._thread: threading.Thread | None = None
        self._received = 0
        self._outcomes: Counter[str] = Counter()
        self._causes: Counter[tuple[str, str]] = Counter()
        self._received_rate, self._published_rate = RateMeter(), RateMeter()
        self._latency: dict[str, Percentiles] = {}

    def offer(self, frame: FrameT) -> None:
        """Hand in a frame, which replaces one that waits. This returns at once and raises nothing."""
        now = self._clock()
        with self._condition:
            self._received += 1
            self._received_rate.add(now)
            if not self._accepting:
                self._count("stale", "deactivated")
                return
            if self._slot is not None:
                self._count("superseded")
            self._slot = (frame, now)
            self._condition.notify_all()

    def open(self) -> None:
        """Accept frames; without `start`, calls of `step` handle them."""
        with self._condition:
            self._accepting = True

    def start(self) -> None:
        """Accept frames and start the worker. Rates and latencies start afresh, counters continue."""
        self.reset_performance()
        self.open()
        thread = threading.Thread(target=self._work, name="hrda-worker", daemon=True)
        self._thread = thread
        thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Drop the waiting frame, let the worker finish its frame, and join it.

        Returns:
            False if the worker is still busy after `timeout_s`; it ends by itself after its frame.
        """
        with self._condition:
            self._accepting = False
            if self._slot is not None:
                self._slot = None
                self._count("stale", "deactivated")
            self._condition.notify_all()
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def step(self) -> bool:
        """Wait for a frame and process it until it is counted.

        Returns:
            False if the pipeline was stopped instead.
        """
        with self._condition:
            while self._slot is None:
                if not self._accepting:
                    return False
                self._condition.wait()
            frame, offered_s = self._slot
            self._slot, self._busy = None, True
        started_s = self._clock()
        outcome, cause, durations, error = self._attempt(frame)
        del frame  # frees megabytes before the next wait
        with self._condition:
            self._busy = False
            self._count(outcome, cause)
            if outcome == "published":
                done_s = self._clock()
                self._published_rate.add(done_s)
                for name, value in {**durations, "wait": started_s - offered_s, "total": done_s - offered_s}.items():
                    self._latency.setdefault(name, Percentiles()).add(value)
            self._condition.notify_all()
        if error is not None:
            with contextlib.suppress(Exception):
                self._report(outcome, cause, error)
        return True

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until no frame is in flight; return False if that takes longer than `timeout_s`."""
        with self._condition:
            return self._condition.wait_for(lambda: self._slot is None and not self._busy, timeout_s)

    def counts(self) -> Counts:
        """Return all counters, from one moment."""
        with self._condition:
            in_flight = (self._slot is not None) + self._busy
            outcomes = {name: self._outcomes[name] for name in OUTCOMES}
            return Counts(received=self._received, in_flight=in_flight, causes=dict(self._causes), **outcomes)

    def performance(self) -> Performance:
        """Return rates and latencies, from one moment."""
        with self._condition:
            now = self._clock()
            summaries = {name: percentiles.summary() for name, percentiles in self._latency.items()}
            return Performance(
                received_hz=self._received_rate.rate(now),
                published_hz=self._published_rate.rate(now),
                latency_s={name: summary for name, summary in summaries.items() if summary is not None},
            )

    def reset_performance(self) -> None:
        """Forget rates and latencies, for example after a jump in time. Counters stay."""
        with self._condition:
            self._received_rate.clear()
            self._published_rate.clear()
            self._latency.clear()

    def _work(self) -> None:
        # A worker that `stop` gave up on must not go on beside the one of the next `start`.
        while self._thread is threading.current_thread() and self.step():
            pass

    def _attempt(self, frame: FrameT) -> tuple[str, str, Mapping[str, float], Exception | None]:
        """(outcome, cause, durations, error to report) of one frame."""
        try:
            return "published", "", self._process(frame), None
        except StaleFrameError as reason:
            return "stale", reason.cause, {}, None
        except ImageError as error:
            return "refused", error.cause, {}, error
        except Exception as error:  # whatever a back end or the middleware raises must not end the node
            return "failed", type(error).__name__, {}, error

    def _count(self, outcome: str, cause: str = "") -> None:
        """Count one frame; the caller holds the lock."""
        self._outcomes[outcome] += 1
        if cause:
            self._causes[outcome, cause] += 1
