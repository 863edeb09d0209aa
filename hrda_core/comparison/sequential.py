"""A mean of answers with bounds that hold at every moment, so that questions may end as soon as they decide.

It is a confidence sequence by betting (Waudby-Smith and Ramdas, JRSS B 2024, arXiv 2010.09686). For each value m that
the mean might have, a gambler bets on the answers at odds that are fair, or worse, if the mean is m. A capital that
ever exceeds 2 / `LEVEL` refutes m. From either side this happens to the true mean with a probability of at most
`LEVEL` / 2 (Ville's inequality), whatever the bets, and whenever one looks. The bets decide how soon the bounds become
narrow, not whether they hold. Each is the larger of two:

- STaR (Voracek and Orabona 2025, arXiv 2505.22422): what reaches the target with the questions that are left;
- Kelly's bet on the mean so far less its standard error, which ends clear cases early.

Answers are stratified as in the doubly robust estimator of Waudby-Smith et al. (2022, arXiv 2210.10768). An answer
counts as its difference from what the earlier answers of its stratum let expect, plus what all strata together let
expect. The expectation of this is the mean whatever was expected, and its variance is that within strata. Each
question is drawn anew, with the same probability for every pixel on which the models disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["LEVEL", "Bounds", "mean_with_bounds"]

FloatArray = npt.NDArray[np.float64]

LEVEL = 0.03
"""Probability with which bounds, or a decision, may be wrong: half of it to either side."""

_MEANS = 401
"""Values that the mean might have, evenly spaced from -1 to 1; 0 is one of them."""

_PRIOR_ANSWERS, _PRIOR_VARIANCE = 8.0, 0.7
"""Weight and value of the variance that is assumed before any answer: that of 15 % zeros and ones of both signs."""

_SHRINKAGE, _FURTHEST = 2.0, 0.8
"""What a stratum lets expect is its mean with this many zeros added, and never surer than this."""

_SMALLEST = 1e-300


@dataclass(frozen=True)
class Bounds:
    """A mean with its bounds, all -1..1.

    Attributes:
        value: the unbiased estimate for a number of answers fixed in advance, moved into the bounds.
        low, high: bounds that hold at all times together with probability 1 - `LEVEL`.
        decided_after: number of answers after which the bounds left 0 for the first time; None = they never did.
    """

    value: float
    low: float
    high: float
    decided_after: int | None

    @property
    def sign(self) -> int:
        """1 or -1 where the mean is above or below 0 by its bounds, else 0."""
        return _sign(self.low, self.high)


def mean_with_bounds(
    answers: Sequence[int], strata: Sequence[int], shares: Sequence[float] | FloatArray, most: int
) -> Bounds:
    """Estimate the mean answer over a population of which questions are independent draws.

    Args:
        answers: -1, 0 or 1, in the order in which they were given.
        strata: stratum of each, an index of `shares`.
        shares: share of the population in each stratum; their sum is 1.
        most: number of answers at which the questions end at the latest. It must be fixed before the first one.
    """
    shares = np.asarray(shares, float)
    means = np.linspace(-1, 1, _MEANS)
    capital = np.ones((2, _MEANS))
    refuted = np.zeros((2, _MEANS), bool)
    sums, counts = np.zeros_like(shares), np.zeros_like(shares)
    total, squares, decided_after = 0.0, _PRIOR_ANSWERS * _PRIOR_VARIANCE, None
    for number, (answer, stratum) in enumerate(zip(answers, strata, strict=True)):
        expected = np.clip(sums / (counts + _SHRINKAGE), -_FURTHEST, _FURTHEST)
        overall = float(expected @ shares)
        value = float(answer - expected[stratum] + overall)
        furthest = overall - 1 - expected.max(), overall + 1 - expected.min()
        variance = squares / (_PRIOR_ANSWERS + number)
        so_far, doubt = total / (number + 4), np.sqrt(variance / (number + 4))
        for side, sign in enumerate((1, -1)):  # against means that are too low, and against those too high
            bets = _bets(capital[side], (sign * (so_far - means) - doubt) / variance, variance, most - number)
            bets = np.minimum(bets, 1 / np.maximum(sign * (means - furthest[side]), _SMALLEST))
            capital[side] *= np.maximum(1 + bets * sign * (value - means), 0)
        refuted |= capital >= 2 / LEVEL
        total += value
        sums[stratum] += answer
        counts[stratum] += 1
        squares += float(answer - expected[stratum]) ** 2
        if decided_after is None and _sign(*_bounds(means, refuted)):
            decided_after = number + 1
    low, high = _bounds(means, refuted)
    return Bounds(min(max(total / max(len(answers), 1), low), high), low, high, decided_after)


def _bounds(means: FloatArray, refuted: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """The last of the means that are refuted without a gap, from either end."""
    low, high = (int(np.argmin(np.append(side, False))) for side in (refuted[0], refuted[1][::-1]))
    return float(means[max(low - 1, 0)]), float(-means[max(high - 1, 0)])


def _sign(low: float, high: float) -> int:
    """A bound of 0 is a mean of 0 that is refuted."""
    return int(low >= 0) - int(high <= 0)


def _bets(capital: FloatArray, kelly: FloatArray, variance: float, left: int) -> FloatArray:
    """Bets against each mean, as shares of the capital for a value that is 1 beyond it."""
    missing = np.log(np.maximum(2 / LEVEL / np.maximum(capital, _SMALLEST), 1))
    return np.asarray(np.maximum(np.sqrt(2 * missing / (max(left, 1) * variance)), kelly))
