"""Both models on the frames of a drive: how often they disagree, and the pixels that a person is asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.comparison.drive import Drive
from hrda_core.data.image_files import UInt8Array
from hrda_core.errors import DataError
from hrda_core.inference import Prediction

__all__ = ["Disagreement", "Question", "examine"]

Predict = Callable[[UInt8Array], Prediction]

_PAIR = 256
"""A pair of class ids a, b is the number a * 256 + b."""


@dataclass(frozen=True)
class Question:
    """A pixel on which the models disagree.

    Attributes:
        frame: number of its frame in the drive.
        name: name of the frame, for people.
        x, y: column and row of the pixel.
        a, b: class ids that the models A and B give it.
        a_first: whether A's answer stands first on the page.
    """

    frame: int
    name: str
    x: int
    y: int
    a: int
    b: int
    a_first: bool


@dataclass(frozen=True)
class Disagreement:
    """How often two models disagree on the frames that were looked at.

    Attributes:
        frames: number of frames looked at.
        unreadable: number of frames that were left out because they cannot be read.
        pixels: number of their pixels.
        pairs: class ids of A and B -> number of pixels with these, where they are not the same.
    """

    frames: int
    unreadable: int
    pixels: int
    pairs: dict[tuple[int, int], int]

    @property
    def share(self) -> float:
        """Share of the pixels on which the models disagree, 0..1."""
        return sum(self.pairs.values()) / self.pixels

    @property
    def shares(self) -> dict[tuple[int, int], float]:
        """Share of each pair among the pixels on which the models disagree; their sum is 1."""
        total = sum(self.pairs.values())
        return {pair: count / total for pair, count in self.pairs.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        pairs = [[a, b, count] for (a, b), count in self.pairs.items()]
        return {"frames": self.frames, "unreadable": self.unreadable, "pixels": self.pixels, "pairs": pairs}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Disagreement:
        """Read what `to_dict` wrote."""
        pairs = {(int(a), int(b)): int(count) for a, b, count in values["pairs"]}
        return cls(int(values["frames"]), int(values["unreadable"]), int(values["pixels"]), pairs)


def examine(
    drive: Drive,
    numbers: Sequence[int],
    predict_a: Predict,
    predict_b: Predict,
    questions: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Disagreement, list[Question]]:
    """Run both models on frames of the drive once, and draw pixels on which they disagree.

    Each question is drawn independently, with the same chance for every such pixel of all frames: a frame and a pair of
    classes come as often as they have disagreeing pixels. For this, each question is a reservoir of one pixel.

    Args:
        numbers: frames to look at.
        questions: number of pixels to draw.
        progress: called with the number of frames done, and of all.

    Returns:
        the counts, and the questions; none where the models agree everywhere.

    Raises:
        DataError: none of the frames can be read.
    """
    rng = np.random.default_rng(seed)
    pairs: Counter[int] = Counter()
    drawn: list[Question | None] = [None] * questions
    pixels = total = unreadable = 0
    reason = ""
    for done, number in enumerate(numbers):
        progress(done, len(numbers))
        try:
            rgb = drive.load(number)
        except DataError as error:
            unreadable, reason = unreadable + 1, reason or str(error)
            continue
        a, b = predict_a(rgb).labels, predict_b(rgb).labels
        found = np.flatnonzero(a != b)
        codes, counts = np.unique(a.flat[found].astype(int) * _PAIR + b.flat[found], return_counts=True)
        pairs.update(dict(zip(codes.tolist(), counts.tolist(), strict=True)))
        pixels += a.size
        total += len(found)
        taken = np.flatnonzero(rng.random(questions) * total < len(found))
        for slot, place in zip(taken.tolist(), _draw(rng, found, len(taken)), strict=True):
            y, x = divmod(place, a.shape[1])
            first = bool(rng.integers(2))
            drawn[slot] = Question(number, drive.name(number), x, y, int(a[y, x]), int(b[y, x]), first)
    progress(len(numbers), len(numbers))
    if not pixels:
        raise DataError(f"none of {len(numbers)} frames can be read; the first: {reason}")
    ids = {(code // _PAIR, code % _PAIR): count for code, count in pairs.most_common()}
    looked = len(numbers) - unreadable
    return Disagreement(looked, unreadable, pixels, ids), [one for one in drawn if one is not None]


def _draw(rng: np.random.Generator, found: npt.NDArray[np.int64], count: int) -> list[int]:
    chosen: list[int] = rng.choice(found, count).tolist() if count else []
    return chosen
