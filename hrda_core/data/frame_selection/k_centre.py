"""Coverage: a few points such that every other point has one of them nearby (greedy k-centre, Gonzalez 1985)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["k_centre"]

FloatArray = npt.NDArray[np.float32]


def k_centre(points: npt.ArrayLike, budget: int) -> list[int]:
    """Choose points one by one: the one nearest to the mean first, then always the one farthest from those chosen.

    The largest distance of a point to its nearest chosen one is at most twice the least that is possible. The choice is
    deterministic: of equally far points the first is taken. A point that equals a chosen one is chosen last.

    Args:
        points: (N, D), finite.
        budget: number of points, 0 or more.

    Returns:
        Indices in the order of choice, min(budget, N) of them, each once.
    """
    values = np.asarray(points, np.float32)
    count = min(budget, len(values))
    if count < 1:
        return []
    chosen = [int(np.argmin(_distances(values, values.mean(axis=0))))]
    nearest = _distances(values, values[chosen[0]])
    nearest[chosen[0]] = -1  # below all distances: never chosen again
    while len(chosen) < count:
        farthest = int(np.argmax(nearest))
        chosen.append(farthest)
        nearest = np.minimum(nearest, _distances(values, values[farthest]))
        nearest[farthest] = -1
    return chosen


def _distances(values: FloatArray, point: FloatArray) -> FloatArray:
    """(N, D), (D,) -> (N,). By differences, since rounding must not make equal points differ."""
    return np.asarray(np.linalg.norm(values - point, axis=1), np.float32)
