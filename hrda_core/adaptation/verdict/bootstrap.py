"""Confidence bounds of a difference of two models: paired block bootstrap over time (Kuensch 1989).

Frames of a drive that follow each other show the same street, so they count as one: whole blocks of neighbours are
drawn. Bounds that take each frame for itself are too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Difference", "block_length", "paired_difference"]

_DRAWS, _SEED = 2000, 0
_LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """The second model's value minus the first's.

    Attributes:
        value: difference on all frames.
        low, high: bounds that hold for 90 % of the resampled sets of frames.
    """

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`better` or `worse` where the bounds exclude zero, else `undecided`."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "undecided"


def block_length(frames: int) -> int:
    """Return the number of neighbouring frames that are drawn together: the square root of all, rounded up."""
    return math.isqrt(max(frames - 1, 0)) + 1


def paired_difference(
    frames: int, statistic: Callable[[npt.NDArray[np.int64]], float], *, in_time: bool = True
) -> Difference:
    """Compute bounds of a difference by resampling frames with replacement, the same ones for both models.

    Args:
        frames: number of frames.
        statistic: returns the difference over the frames of the given indices, repeated ones included.
        in_time: the frames follow each other, so blocks of neighbours are drawn, the last frame beside the first;
            False = each frame is drawn for itself.
    """
    generator = np.random.default_rng(_SEED)
    length = block_length(frames) if in_time else 1
    within = np.arange(length)

    def draw() -> npt.NDArray[np.int64]:
        begins = generator.integers(0, frames, -(-frames // length))
        return np.asarray(((begins[:, None] + within) % frames).reshape(-1)[:frames], np.int64)

    drawn = [statistic(draw()) for _ in range(_DRAWS)]
    low, high = np.nanquantile(drawn, [_LEVEL, 1 - _LEVEL])
    return Difference(statistic(np.arange(frames)), float(low), float(high))
