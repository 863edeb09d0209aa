"""Processes the newest frame of a camera: a one-element slot, a worker thread, and five counters that account for every
frame. The cameras of one model share a worker.

Needs no ROS. Every frame offered ends in exactly one counter:

    published    its masks went out
    stale        nobody wanted it any more when its turn came (`StaleFrameError`: too old, no subscriber, deactivated)
    superseded   a newer frame took its place in the slot
    refused      the message cannot be used (`ImageError`, by its `cause`)
    failed       anything else went wrong, by exception class; `AnswerError` by its `cause`

At any moment `received` equals their sum plus at most two frames in flight: one in the slot, one in the worker.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from hrda_core.errors import AnswerError, ImageError
from hrda_ros.frames.meters import Percentiles, RateMeter
from hrda_ros.frames.worker import Worker

__all__ = ["OUTCOMES", "Counts", "Ending", "Performance", "Pipeline", "StaleFrameError", "ending_of"]

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
        failed_in_a_row: frames that have failed since the last one that was published.
    """

    received: int
    published: int
    stale: int
    superseded: int
    refused: int
    failed: int
    in_flight: int
    causes: Mapping[tuple[str, str], int]
    failed_in_a_row: int = 0


@dataclass(frozen=True)
class Performance:
    """Rates and durations over the last seconds.

    Attributes:
        received_hz, published_hz: frames a second.
        latency_s: name of a step to (p50, p95) in seconds. `wait` is the time in the slot, `total` the time from offer
            to published; the others come from the processing function.
        busy_s: for how long the worker has had the frame that it is at, of whichever camera, seconds; 0 = it is at
            none.
        refused_s: for how long every frame whose turn came has been refused, seconds; 0 = the last one was not.
    """

    received_hz: float
    published_hz: float
    latency_s: Mapping[str, tuple[float, float]]
    refused_s: float = 0.0
    busy_s: float = 0.0


@dataclass(frozen=True)
class Ending:
    """How a frame ended: its outcome and cause, the durations of its steps, and the error to report."""

    outcome: str
    cause: str = ""
    durations: Mapping[str, float] = field(default_factory=dict)
    error: Exception | None = None


def ending_of(process: Callable[[], Mapping[str, float]]) -> Ending:
    """Process a frame and return how that ended. This raises nothing."""
    try:
        return Ending("published", durations=process())
    except StaleFrameError as reason:
        return Ending("stale", reason.cause)
    except ImageError as error:
        return Ending("refused", error.cause, error=error)
    except AnswerError as error:
        return Ending("failed", error.cause, error=error)
    except Exception as error:  # whatever a back end or the middleware raises must not end the node
        return Ending("failed", type(error).__name__, error=error)
    except BaseException as error:  # a library that wants to end the process must not end the worker in silence
        name = type(error).__name__
        return Ending("failed", name, error=RuntimeError(f"{name}: {error}"))


class Pipeline(Generic[FrameT]):
    """Runs `process` on the newest frame of one camera, in the worker's thread.

    Args:
        process: handles one frame and returns the durations of its steps, seconds by name. It raises `StaleFrameError`
            for a stale frame, `ImageError` for a refused one, any other exception for a failed one.
        report: called with (outcome, cause, error) of every refused or failed frame, in the worker thread; what it
            raises is ignored.
        clock: monotonic seconds.
        worker: the worker that this camera shares with others; None = one of its own.

    Attributes:
        worker: it is started and stopped for all its cameras at once.
    """

    def __init__(
        self,
        process: Callable[[FrameT], Mapping[str, float]],
        report: Callable[[str, str, Exception], None] = lambda outcome, cause, error: None,
        clock: Callable[[], float] = time.perf_counter,
        worker: Worker | None = None,
    ) -> None:
        self._process = process
        self._report = report
        self._clock = clock
        self.worker = worker or Worker(clock)
        self._condition = self.worker.condition
        self._received = 0
        self._outcomes: Counter[str] = Counter()
        self._causes: Counter[tuple[str, str]] = Counter()
        self._failed_in_a_row = 0
        self._received_rate, self._published_rate = RateMeter(), RateMeter()
        self._latency: dict[str, Percentiles] = {}
        self._refused_since_s: float | None = None
        self.worker.add(self)

    def offer(self, frame: FrameT) -> None:
        """Hand in a frame, which replaces one that waits. This returns at once and raises nothing."""
        now = self._clock()
        with self._condition:
            self._received += 1
            self._received_rate.add(now)
            kept_out = self.worker.put(self, frame, now)
            if kept_out == "superseded":
                self._count("superseded")
            elif kept_out:
                self._count("stale", kept_out)

    def open(self) -> None:
        """As `Worker.open`."""
        self.worker.open()

    def start(self) -> None:
        """As `Worker.start`."""
        self.worker.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """As `Worker.stop`."""
        return self.worker.stop(timeout_s)

    def step(self) -> bool:
        """As `Worker.step`."""
        return self.worker.step()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """As `Worker.wait_until_idle`."""
        return self.worker.wait_until_idle(timeout_s)

    def counts(self) -> Counts:
        """Return all counters, from one moment."""
        with self._condition:
            outcomes = {name: self._outcomes[name] for name in OUTCOMES}
            return Counts(
                received=self._received,
                in_flight=self.worker.in_flight(self),
                causes=dict(self._causes),
                failed_in_a_row=self._failed_in_a_row,
                **outcomes,
            )

    def performance(self) -> Performance:
        """Return rates and latencies, from one moment."""
        with self._condition:
            now = self._clock()
            summaries = {name: percentiles.summary() for name, percentiles in self._latency.items()}
            return Performance(
                received_hz=self._received_rate.rate(now),
                published_hz=self._published_rate.rate(now),
                latency_s={name: summary for name, summary in summaries.items() if summary is not None},
                busy_s=self.worker.busy_s(now),
                refused_s=0.0 if self._refused_since_s is None else now - self._refused_since_s,
            )

    def reset_performance(self) -> None:
        """Forget rates and latencies, for example after a jump in time. Counters stay."""
        with self._condition:
            self._received_rate.clear()
            self._published_rate.clear()
            self._latency.clear()

    # What the worker calls, see `hrda_ros.frames.worker.Lane`.

    def started(self) -> None:
        """What was refused before the start says nothing about the camera of now."""
        with self._condition:
            self._refused_since_s = None

    def attempt(self, frame: FrameT) -> Ending:
        """Process one frame; whatever goes wrong is in the result."""
        return ending_of(lambda: self._process(frame))

    def settle(self, ending: Ending, offered_s: float, started_s: float) -> None:
        """Count one frame and take its times; the caller holds the lock."""
        self._count(ending.outcome, ending.cause)
        if ending.outcome != "refused":
            self._refused_since_s = None
        elif self._refused_since_s is None:
            self._refused_since_s = self._clock()
        if ending.outcome == "published":
            done_s = self._clock()
            self._published_rate.add(done_s)
            times = {**ending.durations, "wait": started_s - offered_s, "total": done_s - offered_s}
            for name, value in times.items():
                self._latency.setdefault(name, Percentiles()).add(value)

    def tell(self, ending: Ending) -> None:
        """Report a frame that was refused or has failed."""
        if ending.error is not None:
            with contextlib.suppress(Exception):
                self._report(ending.outcome, ending.cause, ending.error)

    def drop(self) -> None:
        """Count the frame that waited when the worker was stopped; the caller holds the lock."""
        self._count("stale", "deactivated")

    def _count(self, outcome: str, cause: str = "") -> None:
        """Count one frame; the caller holds the lock."""
        self._outcomes[outcome] += 1
        if outcome in ("published", "failed"):
            self._failed_in_a_row = self._failed_in_a_row + 1 if outcome == "failed" else 0
        if cause:
            self._causes[outcome, cause] += 1
