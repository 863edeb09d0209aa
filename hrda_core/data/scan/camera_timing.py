"""Finds rate, gaps and jumps of a camera's clock from the time stamps of its images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "Timing", "timing"]

_GAP_FACTOR = 3.0
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Interval:
    """Time between two consecutive images.

    Attributes:
        begin_ns: stamp of the first image.
        length_s: seconds to the second image; negative where the clock jumped back.
    """

    begin_ns: int
    length_s: float


@dataclass(frozen=True)
class Timing:
    """The regularity of a camera.

    Attributes:
        rate_hz: one over the median interval; None with fewer than two images.
        gaps: intervals above three times the median, longest first.
        jumps_back: steps back in time, largest first.
    """

    rate_hz: float | None
    gaps: tuple[Interval, ...]
    jumps_back: tuple[Interval, ...]


def timing(stamps_ns: Int64Array, recording_of: Int64Array) -> Timing:
    """Judge the stamps of a camera. The time between two recordings is no gap.

    Args:
        stamps_ns: (N,), in the order in which images were read.
        recording_of: (N,), number of the recording of each image.
    """
    same = np.diff(recording_of) == 0
    begins, lengths = stamps_ns[:-1][same], np.diff(stamps_ns)[same] / 1e9
    forward = lengths[lengths > 0]
    if not len(forward):
        return Timing(None, (), _sorted(begins, lengths, lengths < 0))
    median = float(np.median(forward))
    return Timing(
        1 / median, _sorted(begins, lengths, lengths > _GAP_FACTOR * median), _sorted(begins, lengths, lengths < 0)
    )


def _sorted(
    begins: Int64Array, lengths: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_]
) -> tuple[Interval, ...]:
    order = sorted(np.flatnonzero(chosen), key=lambda place: -abs(lengths[place]))
    return tuple(Interval(int(begins[place]), float(lengths[place])) for place in order)
