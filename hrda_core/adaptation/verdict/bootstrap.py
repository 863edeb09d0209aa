"""Confidence bounds of a difference of two models: paired bootstrap over frames (Efron, Tibshirani 1993, chapter 8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Difference", "paired_difference"]

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


def paired_difference(frames: int, statistic: Callable[[npt.NDArray[np.int64]], float]) -> Difference:
    """Compute bounds of a difference by resampling frames with replacement, the same ones for both models.

    Args:
        frames: number of frames.
        statistic: returns the difference over the frames of the given indices, repeated ones included.
    """
    generator = np.random.default_rng(_SEED)
    drawn = [statistic(generator.integers(0, frames, frames)) for _ in range(_DRAWS)]
    low, high = np.nanquantile(drawn, [_LEVEL, 1 - _LEVEL])
    return Difference(statistic(np.arange(frames)), float(low), float(high))
