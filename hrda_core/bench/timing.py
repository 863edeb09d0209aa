"""Times several candidates in turn, so that a change of the machine's load affects all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Candidate", "Samples", "interleave"]


@dataclass(frozen=True)
class Candidate:
    """Something to time.

    Attributes:
        frame: runs one frame; returns the time on the device without copies in seconds, or None.
        frames: number of frames to time, at least 1.
        warm_up: number of frames before those, in which memory is allocated and kernels are chosen.
    """

    frame: Callable[[], float | None]
    frames: int
    warm_up: int = 3


@dataclass
class Samples:
    """Seconds of each frame: wall time, processor time (of all threads), and device time where it is known."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    device: list[float] = field(default_factory=list)

    @property
    def p50(self) -> float:
        """Median wall time, seconds."""
        return float(np.median(self.wall))

    def to_dict(self) -> dict[str, Any]:
        """Return percentiles in milliseconds, the rate of the median frame, and the processor time of the mean one."""
        wall = 1e3 * np.asarray(self.wall)
        names = {"p10_ms": 10, "p50_ms": 50, "p95_ms": 95, "p99_ms": 99}
        percentiles = np.percentile(wall, list(names.values()))
        result: dict[str, Any] = {"frames": len(wall), "min_ms": float(wall.min())}
        result |= dict(zip(names, map(float, percentiles), strict=True))
        result |= {"max_ms": float(wall.max()), "mean_ms": float(wall.mean()), "rate_hz": 1 / self.p50}
        result["cpu_ms"] = 1e3 * float(np.mean(self.cpu))
        rounded = {name: round(value, 3) for name, value in result.items()}
        return {**rounded, "device_p50_ms": round(1e3 * float(np.median(self.device)), 3) if self.device else None}


def interleave(
    candidates: Mapping[str, Candidate], progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Samples]:
    """Warm up all candidates, then time their frames in turn; those with fewer frames are spread over the run.

    Args:
        progress: called with the number of frames done and of all.
    """
    for candidate in candidates.values():
        for _ in range(candidate.warm_up):
            candidate.frame()
    samples = {name: Samples() for name in candidates}
    rounds = max(candidate.frames for candidate in candidates.values())
    total = sum(candidate.frames for candidate in candidates.values())
    done = 0
    for index in range(rounds):
        for name, candidate in candidates.items():
            if (index + 1) * candidate.frames // rounds > index * candidate.frames // rounds:
                _time(candidate, samples[name])
                done += 1
                progress(done, total)
    return samples


def _time(candidate: Candidate, samples: Samples) -> None:
    begin, begin_cpu = time.perf_counter(), time.process_time()
    on_device = candidate.frame()
    samples.wall.append(time.perf_counter() - begin)
    samples.cpu.append(time.process_time() - begin_cpu)
    if on_device is not None:
        samples.device.append(on_device)
