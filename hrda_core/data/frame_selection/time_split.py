"""Splits a recording by time: frames to judge on come from its end, with a gap before them.

Neighbouring frames show the same scene, so a random split would judge on what was adapted to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Part", "in_recorded_order", "split_by_time"]

Int64Array = npt.NDArray[np.int64]
Part = Literal["adapt", "gap", "held_out"]

_LONGEST_STEP_NS = 5_000_000_000
"""A pause counts as this at most, so that a break between two drives is not taken for driving."""
_JITTER_NS = 1_000_000_000
"""Images may overtake each other by this much. A larger step back is one of the clock."""


def in_recorded_order(stamps_ns: Int64Array) -> Int64Array:
    """Continue a camera's time where its clock stepped back: the order of recording counts, not the clock.

    Args:
        stamps_ns: int64 (N,), N >= 1, in the order of recording.

    Returns:
        int64 (N,). Times before the first step stay as they are; later ones are moved on, so that a step back becomes
        the usual interval.
    """
    steps = np.diff(stamps_ns)
    back = steps < -_JITTER_NS
    if not back.any():
        return stamps_ns
    usual = int(np.median(steps[steps > 0])) if (steps > 0).any() else _JITTER_NS
    moved: Int64Array = stamps_ns.copy()
    moved[1:] += np.cumsum(np.where(back, usual - steps, 0))
    return moved


def split_by_time(stamps_ns: Mapping[str, Int64Array], held_out: float, gap_s: float) -> dict[str, Sequence[Part]]:
    """Assign a part to each frame.

    Of each camera the frames of the last share of its time are held out. What any camera recorded during the held-out
    time of another, or less than `gap_s` from it, is `gap`: two cameras see the same street.

    Args:
        stamps_ns: camera -> int64 (N,), N >= 1, in any order.
        held_out: share of time, 0..1; 0 = nothing is held out.
        gap_s: seconds.
    """
    if held_out <= 0:
        return {camera: ["adapt"] * len(stamps) for camera, stamps in stamps_ns.items()}
    spans = {camera: _last_span(stamps, held_out) for camera, stamps in stamps_ns.items()}
    gap_ns = round(1e9 * gap_s)
    parts: dict[str, Sequence[Part]] = {}
    for camera, stamps in stamps_ns.items():
        near = np.zeros(len(stamps), bool)
        for begin, end in spans.values():
            near |= (stamps >= begin - gap_ns) & (stamps <= end + gap_ns)
        own = (stamps >= spans[camera][0]) & (stamps <= spans[camera][1])
        parts[camera] = [
            "held_out" if held else "gap" if close else "adapt" for held, close in zip(own, near, strict=True)
        ]
    return parts


def _last_span(stamps: Int64Array, share: float) -> tuple[int, int]:
    """First and last stamp of the last share of the time."""
    ordered = np.sort(stamps)
    passed = np.concatenate([[0], np.cumsum(np.minimum(np.diff(ordered), _LONGEST_STEP_NS))])
    begin = ordered[np.searchsorted(passed, (1 - share) * passed[-1], side="left")]
    return int(begin), int(ordered[-1])
