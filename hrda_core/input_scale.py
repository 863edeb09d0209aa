"""The scale at which a network sees images: declared in a recipe, kept in a bundle, applied by commands and the node.

A network knows objects of the sizes that it was trained on. One that is trained and scored on images of 1024 x 512
finds little in the same images at 2048 x 1024, so the scale travels with the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.resizing import INTERPOLATIONS, Interpolation, keep_ratio_size, resize_image, shrunk

__all__ = ["MOST_APART", "InputScale", "trained_sides"]

MOST_APART = 1.5
"""Images that are more than this factor larger or smaller than those of the training get a warning."""

UInt8Array = npt.NDArray[np.uint8]
Pair = tuple[int, int]


@dataclass(frozen=True)
class InputScale:
    """How an image is resized before a network sees it, and how large the images of its training were.

    Attributes:
        long_side: larger images are shrunk to this longer side, pixels; 0 = never.
        resize: before that, an image is resized, its ratio kept, to fit this width and height, pixels; smaller ones are
            enlarged. None = not.
        interpolation: `area` or `bilinear`, see `hrda_core.resizing.resize_image`.
        trained: longer sides of the images that the network was trained on, as it saw them before they were cropped:
            smallest and largest, pixels (see `trained_sides`); None = not known.
    """

    long_side: int = 0
    resize: Pair | None = None
    interpolation: Interpolation = "area"
    trained: Pair | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> InputScale:
        """Read what `to_dict` gave; keys that are absent have their defaults, as in bundles of earlier releases.

        Raises:
            KeyError, TypeError, ValueError: a value makes no sense.
        """
        interpolation, long_side = values.get("interpolation", "area"), int(values["long_side"])
        resize, trained = (_pair(values.get(name)) for name in ("resize", "trained"))
        if interpolation not in INTERPOLATIONS or long_side < 0:
            raise ValueError(f"an input cannot have interpolation '{interpolation}' and long_side {long_side}")
        return cls(long_side, resize, interpolation, trained)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without those that are not known or not used."""
        values: dict[str, Any] = {"long_side": self.long_side, "interpolation": self.interpolation}
        pairs = {"resize": self.resize, "trained": self.trained}
        return values | {name: list(pair) for name, pair in pairs.items() if pair is not None}

    def only(self, long_side: int) -> InputScale:
        """Return this scale with another `long_side` and no `resize`: what a user asks for at use."""
        return replace(self, long_side=long_side, resize=None)

    def size(self, height: int, width: int) -> Pair:
        """Return height and width at which the network sees an image of `height` x `width` pixels."""
        return shrunk(*keep_ratio_size(height, width, self.resize), self.long_side)

    def apply(self, rgb: UInt8Array) -> UInt8Array:
        """Resize an image as the network is to see it: uint8 (H, W, 3) -> uint8 (`size`, 3)."""
        return resize_image(rgb, *self.size(rgb.shape[0], rgb.shape[1]), self.interpolation)

    def warning(self, height: int, width: int) -> str:
        """Return a sentence where an image of this size reaches the network at an unusual scale, else an empty text."""
        if self.trained is None:
            return ""
        seen = self.size(height, width)
        smallest, largest = self.trained
        larger, smaller = max(seen) / largest, smallest / max(seen)
        if max(larger, smaller) <= MOST_APART:
            return ""
        apart = f"{larger:.1f} times larger" if larger > 1 else f"{smaller:.1f} times smaller"
        sides = f"{smallest}" if smallest == largest else f"{smallest} to {largest}"
        advice = f"a long_side of {largest}" if larger > 1 else "larger images, or a network for small ones"
        return (
            f"images of {width}x{height} pixels reach the network with {seen[1]}x{seen[0]}, {apart} than those that it "
            f"was trained on (longer side {sides}), so its masks will be worse; take {advice}"
        )

    def __str__(self) -> str:
        parts = []
        if self.resize is not None:
            parts.append(f"resized to fit {self.resize[0]}x{self.resize[1]} ({self.interpolation})")
        if self.long_side:
            parts.append(f"shrunk to a longer side of at most {self.long_side} ({self.interpolation})")
        return "images are " + (" and ".join(parts) or "taken in their own size")


def trained_sides(sizes: Iterable[Pair], scale_min: float, scale_max: float) -> Pair | None:
    """Return the range of longer sides that a network is trained on.

    Args:
        sizes: heights and widths of the images after the resizing that is the same for all, before the random scale.
        scale_min, scale_max: range of the random scale.

    Returns:
        the 5th percentile times `scale_min` and the 95th times `scale_max`, pixels: a few odd images do not count. None
        without images.
    """
    sides = [max(size) for size in sizes]
    if not sides:
        return None
    low, high = np.percentile(sides, (5, 95))
    return max(1, round(float(low) * scale_min)), max(1, round(float(high) * scale_max))


def _pair(values: Any) -> Pair | None:
    if values is None:
        return None
    first, second = (int(value) for value in values)
    if min(first, second) < 1:
        raise ValueError(f"two sizes of 1 pixel or more are expected, not {values}")
    return first, second
