"""Finds rate, gaps and jumps of a camera's clock from the time stamps of its images.

A clock that is set (by NTP, by a simulator that starts) steps by years. Such a step is no time that has passed: gaps,
durations and the time of a frame leave it out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "Timing", "elapsed_s", "is_jump", "timing"]

_GAP_FACTOR = 3.0
_LONGEST_GAP_S = 3600.0
"""No recorder pauses for longer: a longer step is one of the clock."""
_JITTER_S = 1.0
"""Images may overtake each other by this much. A larger step back is one of the clock."""

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """Time between two consecutive images.

    Attributes:
        number: number of the first image.
        begin_ns: its stamp.
        length_s: seconds to the second image; negative where the clock jumped back.
    """

    number: int
    begin_ns: int
    length_s: float


@dataclass(frozen=True)
class Timing:
    """The regularity of a camera.

    Attributes:
        rate_hz: one over the median interval; None with fewer than two images.
        gaps: intervals above three times the median, longest first.
        jumps_back: steps back in time, largest first.
        jumps_forward: steps of more than an hour, which the clock made and not the drive, largest first.
    """

    rate_hz: float | None
    gaps: tuple[Interval, ...]
    jumps_back: tuple[Interval, ...]
    jumps_forward: tuple[Interval, ...]


def is_jump(step_s: float) -> bool:
    """Return whether a step from one time to the next, seconds, was made by a clock that was set."""
    return step_s < -_JITTER_S or step_s > _LONGEST_GAP_S


def elapsed_s(stamps_ns: Int64Array, recording_of: Int64Array) -> FloatArray:
    """Return the time of each image in the order of recording, seconds after the first one of the camera.

    A jump of the clock counts as the usual interval, as does the way to a recording that begins earlier.

    Args:
        stamps_ns: (N,), in the order in which images were read.
        recording_of: (N,), number of the recording of each image.
    """
    if not len(stamps_ns):
        return np.empty(0)
    steps, same = np.diff(stamps_ns) / 1e9, np.diff(recording_of) == 0
    jumps = (steps < -_JITTER_S) | (same & (steps > _LONGEST_GAP_S))
    forward = steps[~jumps & same & (steps > 0)]
    steps[jumps] = float(np.median(forward)) if len(forward) else 0.0
    return np.concatenate([[0.0], np.cumsum(steps)])


def timing(stamps_ns: Int64Array, recording_of: Int64Array) -> Timing:
    """Judge the stamps of a camera. The time between two recordings is no gap.

    Args:
        stamps_ns: (N,), in the order in which images were read.
        recording_of: (N,), number of the recording of each image.
    """
    same = np.diff(recording_of) == 0
    numbers, lengths = np.flatnonzero(same), np.diff(stamps_ns)[same] / 1e9
    back, jumps = lengths < 0, lengths > _LONGEST_GAP_S
    forward = lengths[~back & ~jumps & (lengths > 0)]
    gaps = ~back & ~jumps & (lengths > _GAP_FACTOR * (float(np.median(forward)) if len(forward) else 0.0))
    return Timing(
        1 / float(np.median(forward)) if len(forward) else None,
        *(_sorted(numbers, stamps_ns, lengths, chosen) for chosen in (gaps, back, jumps)),
    )


def _sorted(
    numbers: Int64Array, stamps_ns: Int64Array, lengths: FloatArray, chosen: npt.NDArray[np.bool_]
) -> tuple[Interval, ...]:
    order = sorted(np.flatnonzero(chosen), key=lambda place: -abs(lengths[place]))
    return tuple(
        Interval(int(numbers[place]), int(stamps_ns[numbers[place]]), float(lengths[place])) for place in order
    )
