"""Chooses the images of a labelled data set that go into a source pack.

Every step takes the image that gains most for sum over c of P(c) * (1 + 1/2 + ... + 1/n_c), where P(c) are the class
probabilities of Rare Class Sampling (paper section 3.3) and n_c is the number of chosen images that show class c. Rare
classes weigh most, and the sum of falling fractions spreads the choice over them instead of collecting one. Before
that, every class that exists is given one image, the rarest first. Equal gains are decided by the seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hrda_core.data.image_files import BoolArray
from hrda_core.data.packs.format import MIN_SHARE
from hrda_core.errors import DataError

__all__ = ["Choice", "choose_images", "shown_classes"]

_NEIGHBOURS = 4  # images on either side of a held-out one that training does not get, by order of names


@dataclass(frozen=True)
class Choice:
    """Chosen images.

    Attributes:
        train, held_out: row numbers in the data set, ascending.
    """

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def shown_classes(counts: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> BoolArray:
    """Return which classes an image shows, bool (N, C): those with more than `MIN_SHARE` of its pixels.

    Where no image has that many, the images with at least half the largest number of pixels of the class count.

    Args:
        counts: int64 (N, C), pixels of each class.
        sizes: int64 (N, 2), height and width of the label maps.
    """
    enough = counts > MIN_SHARE * sizes.prod(axis=1)[:, None]
    most = counts.max(axis=0, initial=0)
    small = (most > 0) & ~enough.any(axis=0)
    return np.asarray(enough | (small & (counts * 2 >= most)), np.bool_)


def choose_images(
    shown: BoolArray,
    weights: npt.NDArray[np.float64],
    images: int,
    *,
    held_out: float = 0.1,
    seed: int = 0,
    hold: Sequence[int] | None = None,
) -> Choice:
    """Choose a class-balanced part of a data set, and hold out a part of it.

    The held-out part is chosen first, in the same way. It takes no more than its share of the images of a class and
    never the last one. Neighbours of held-out images in the order of the data set are often of the same scene;
    training does not get them, unless it would lose half of a class or not have enough images.

    Args:
        shown: bool (N, C), see `shown_classes`.
        weights: float64 (C,), P(c) of Rare Class Sampling, 0 for absent classes.
        images: number of images to choose, held-out ones included; fewer where fewer show a class.
        held_out: share of them to hold out, 0 to 0.5; rounded, but at least one image where it is not 0.
        seed: decides between equal gains.
        hold: hold out these rows, however many, instead of a share; training gets none of them, and their neighbours
            may be trained on.

    Raises:
        DataError: no image shows any class.
    """
    useful = np.asarray(shown.any(axis=1), np.bool_)
    total = min(images, int(useful.sum()))
    if total == 0:
        raise DataError("no image of the data set shows any class; check layout, split and label space")
    order = np.random.RandomState(seed).permutation(len(shown))
    if hold is not None:
        return _around(shown, weights, images, order, useful, sorted(set(hold)))
    number = min(max(1, round(held_out * total)), total - 1) if held_out > 0 else 0
    having = shown.sum(axis=0)
    limit = np.minimum(np.ceil(held_out * having), having - 1)
    held = _greedy(shown, weights, number, order, useful, limit)
    free = useful.copy()
    free[held] = False
    wanted = total - len(held)
    apart = _away_from(held, shown, free, wanted)
    train = _greedy(shown, weights, wanted, order, apart, np.full(shown.shape[1], math.inf))
    return Choice(tuple(sorted(train)), tuple(sorted(held)))


def _around(
    shown: BoolArray,
    weights: npt.NDArray[np.float64],
    images: int,
    order: npt.NDArray[np.int64],
    useful: BoolArray,
    hold: Sequence[int],
) -> Choice:
    """The choice where the held-out rows are given."""
    free = useful.copy()
    free[list(hold)] = False
    wanted = min(images - len(hold), int(free.sum()))
    if wanted < 1:
        raise DataError(
            f"{len(hold)} of {len(shown)} images are held out and {images} wanted, which leaves none to train on; "
            f"take more images or hold out fewer"
        )
    train = _greedy(shown, weights, wanted, order, free, np.full(shown.shape[1], math.inf))
    return Choice(tuple(sorted(train)), tuple(hold))


def _greedy(
    shown: BoolArray,
    weights: npt.NDArray[np.float64],
    images: int,
    order: npt.NDArray[np.int64],
    allowed: BoolArray,
    limit: npt.NDArray[np.float64],
) -> list[int]:
    """Rows among `allowed`; of each class at most `limit` images."""
    ordered, left = shown[order], allowed[order].copy()
    taken = np.zeros(shown.shape[1], np.int64)
    chosen: list[int] = []
    rarest_first = [int(c) for c in np.argsort(shown.sum(axis=0), kind="stable")]
    while len(chosen) < images:
        left &= ~(ordered & (taken >= limit)).any(axis=1)
        candidates = left
        while rarest_first:
            uncovered = left & ordered[:, rarest_first[0]]
            if taken[rarest_first[0]] == 0 and uncovered.any():
                candidates = uncovered
                break
            rarest_first.pop(0)
        if not candidates.any():
            break
        gain = np.where(candidates, ordered @ (weights / (1 + taken)), -1.0)
        best = int(gain.argmax())
        left[best] = False
        taken += ordered[best]
        chosen.append(int(order[best]))
    return chosen


def _away_from(held: list[int], shown: BoolArray, free: BoolArray, wanted: int) -> BoolArray:
    """The free images that are no neighbours of held-out ones, and those that training cannot do without."""
    apart = free.copy()
    for row in held:
        apart[max(0, row - _NEIGHBOURS) : row + _NEIGHBOURS + 1] = False
    for images in shown.T:
        if 2 * (images & apart).sum() < (images & free).sum():
            apart |= images & free
    return apart if apart.sum() >= wanted else free
