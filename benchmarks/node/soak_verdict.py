"""What a process holds while it works, and whether that grows: resident memory, threads and descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Held", "judge", "look_at"]

WARM_UP = 0.25
"""Share of the samples at the start that is not judged: pools fill, and code is met for the first time."""

_ENDS = 0.2
"""Share of the judged samples that stand for their start, and for their end."""


@dataclass(frozen=True)
class Held:
    """What a process held at one moment.

    Attributes:
        at_s: seconds since the start of the load.
        resident_mb: memory of its own in RAM, MB of 2**20 bytes.
        shared_mb: of the memory that it shares with other processes, what it has touched so far, MB. Fast DDS sends
            images through segments of a fixed size, and touches them little by little.
        threads, descriptors: their numbers.
    """

    at_s: float
    resident_mb: float
    shared_mb: float
    threads: int
    descriptors: int


def look_at(process: int, at_s: float) -> Held:
    """Read what a process holds, from /proc."""
    folder = Path("/proc") / str(process)
    lines = (line.split() for line in (folder / "status").read_text().splitlines())
    kilobytes = {words[0]: int(words[1]) for words in lines if words and words[0].startswith(("Rss", "VmRSS"))}
    threads, descriptors = (len(list((folder / name).iterdir())) for name in ("task", "fd"))
    shared = kilobytes["RssShmem:"]
    return Held(at_s, (kilobytes["VmRSS:"] - shared) / 1024, shared / 1024, threads, descriptors)


def judge(samples: Sequence[Held], growth_mb: float) -> tuple[dict[str, Any], list[str]]:
    """Judge a run after its warm-up.

    The slope of the memory is the median of the slopes between samples of the two halves (Theil and Sen), which single
    samples in the middle of a reload do not move. Of threads and descriptors the smallest number at the start and at
    the end is compared, because a reload has a thread and files of its own for a moment.

    Args:
        samples: what was held, in order of time; 20 at least.
        growth_mb: by how much the memory may grow over the judged time, MB.

    Returns:
        the figures, and a sentence on each thing that grows.
    """
    judged = samples[int(WARM_UP * len(samples)) :]
    ends = max(1, int(_ENDS * len(judged)))
    span_s = judged[-1].at_s - judged[0].at_s
    slope = _slope(judged)
    resident = [sample.resident_mb for sample in judged]
    figures: dict[str, Any] = {
        "resident_mb": {
            "at_start": round(samples[0].resident_mb, 1),
            "after_warm_up": round(float(np.median(resident[:ends])), 1),
            "at_end": round(float(np.median(resident[-ends:])), 1),
            "largest": round(max(sample.resident_mb for sample in samples), 1),
            "slope_mb_per_hour": round(3600 * slope, 2),
            "growth_mb": round(slope * span_s, 2),
        },
        "shared_mb": {"at_start": round(samples[0].shared_mb, 1), "at_end": round(samples[-1].shared_mb, 1)},
        "judged_s": round(span_s, 1),
    }
    growing = []
    if slope * span_s > growth_mb:
        growing.append(
            f"resident memory grows by {slope * span_s:.1f} MB in {span_s:.0f} s after the warm-up, "
            f"more than {growth_mb:g} MB"
        )
    for name in ("threads", "descriptors"):
        first, last = (min(getattr(sample, name) for sample in part) for part in (judged[:ends], judged[-ends:]))
        figures[name] = {"after_warm_up": first, "at_end": last, "largest": max(getattr(s, name) for s in judged)}
        if last > first:
            growing.append(f"{name} grow from {first} to {last}")
    return figures, growing


def _slope(samples: Sequence[Held]) -> float:
    """MB a second."""
    half = len(samples) // 2
    at_s, resident = (np.array([getattr(s, name) for s in samples]) for name in ("at_s", "resident_mb"))
    rises, runs = (array[half:, None] - array[None, :half] for array in (resident, at_s))
    return float(np.median(rises / runs))
