"""Pixels of 9 to 16 bits become pictures of 8 bits here, and nowhere else.

Cameras of 10, 12 or 14 bits store their values in 16 bits. Taking the high byte of those gives a picture that is near
black, so the range of the values has to be known: it is given, or the smallest of 8, 10, 12, 14 and 16 bits that holds
all values seen so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hrda_core.errors import ImageError

__all__ = [
    "FULL_RANGE",
    "DeepPixels",
    "PixelValues",
    "ValueRange",
    "fitting_range",
    "near_black",
    "range_of",
    "read_range",
]

UInt8Array = npt.NDArray[np.uint8]
UInt16Array = npt.NDArray[np.uint16]

_BITS = (8, 10, 12, 14, 16)
_DARK = 16
"""A picture is near black where 99 % of its pixels are below this, of 255."""


class PixelValues(Protocol):
    """Something that turns deep pixels into bytes."""

    def to_bytes(self, values: UInt16Array) -> UInt8Array:
        """Return pixels uint8 of the same shape."""


@dataclass(frozen=True)
class ValueRange:
    """The values that become 0 and 255. Values beyond them become 0 and 255 too.

    Attributes:
        low, high: 0 <= low < high <= 65535.

    Raises:
        ImageError: `cause` is `value_range`: the values are no range.
    """

    low: int = 0
    high: int = 65535

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 65535:
            raise ImageError(
                f"the range of values {self.low} to {self.high} makes no sense; give two whole numbers, the darker "
                f"first, from 0 to 65535: 0 4095 for 12 bits",
                "value_range",
            )

    def to_bytes(self, values: UInt16Array) -> UInt8Array:
        """Return pixels uint8 of the same shape; of the full range they are the high bytes."""
        bits = (self.high + 1).bit_length() - 1
        if self.low == 0 and self.high + 1 == 1 << bits >= 256 and int(values.max(initial=0)) <= self.high:
            return np.asarray(values >> (bits - 8), np.uint8)  # seven times faster than the table
        return np.asarray(_table(self.low, self.high)[values], np.uint8)

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"


FULL_RANGE = ValueRange()


@cache
def _table(low: int, high: int) -> UInt8Array:
    scaled = (np.arange(65536, dtype=np.int64) - low) * 256 // (high - low + 1)
    return np.asarray(scaled.clip(0, 255), np.uint8)


def range_of(given: tuple[int, int] | None) -> ValueRange | None:
    """Return the range that a user gave, or None for none.

    Raises:
        ImageError: as `ValueRange`.
    """
    return None if given is None else ValueRange(*given)


def read_range(text: str) -> ValueRange | None:
    """Read a range as text: `0 4095`; None for an empty text.

    Raises:
        ImageError: the text is no range; as `ValueRange`.
    """
    parts = text.split()
    if not parts:
        return None
    if len(parts) != 2 or not all(part.isdecimal() and len(part) < 9 for part in parts):
        raise ImageError(f"'{text}' is no range of values; give the darkest and the brightest: 0 4095", "value_range")
    return ValueRange(int(parts[0]), int(parts[1]))


def fitting_range(highest: int) -> ValueRange:
    """Return the range of the smallest usual number of bits that holds a value."""
    return ValueRange(0, next(2**bits - 1 for bits in _BITS if highest < 2**bits))


def near_black(picture: npt.NDArray[Any], values: ValueRange) -> str:
    """Return a sentence where a picture made of deep pixels, uint8, is near black, else nothing."""
    if not picture.size or np.percentile(picture, 99) >= _DARK:
        return ""
    return (
        f"pictures of 16-bit pixels are near black: 99 % of their values lie in the lowest sixteenth of {values}; "
        f"give the camera's own range as value_range"
    )


class DeepPixels:
    """Turns the deep pixels of one camera into bytes, frame by frame.

    A range that is not given grows with the values that come, and never shrinks.

    Attributes:
        range: the range now; None before the first frame where none is given.

    Args:
        given: the range; None = by the values.
        say: takes a sentence when a range is chosen, or pictures are near black.
    """

    def __init__(self, given: ValueRange | None = None, say: Callable[[str], object] | None = None) -> None:
        self.range, self._given, self._say, self._looked = given, given is not None, say, False

    def to_bytes(self, values: UInt16Array) -> UInt8Array:
        """Return pixels uint8 of the same shape."""
        if not self._given:
            self._grow(int(values.max(initial=0)))
        assert self.range is not None
        picture = self.range.to_bytes(values)
        if not self._looked:
            self._looked = True
            self._tell(near_black(picture[::4, ::4], self.range))
        return picture

    def _grow(self, highest: int) -> None:
        needed = fitting_range(highest)
        if self.range is None or needed.high > self.range.high:
            self.range, self._looked = needed, False
            self._tell(f"16-bit pixels with values up to {highest}: {needed} become 0..255; value_range says otherwise")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out whom to tell: a copy in another process tells nobody."""
        return {**vars(self), "_say": None}

    def _tell(self, sentence: str) -> None:
        if sentence and self._say is not None:
            self._say(sentence)
