"""The random detail crop of HRDA's training (paper section 3.4)."""

from __future__ import annotations

import numpy as np

from hrda_core.errors import RecipeError
from hrda_core.window_plan import CropBox

__all__ = ["draw_detail_crop"]

_DIVISIBLE = 8
"""Logit stride 4 times context factor 2: the crop then lies on whole cells of both logit grids."""


def draw_detail_crop(size: tuple[int, int], crop: tuple[int, int], rng: np.random.RandomState) -> CropBox:
    """Draw one box for a whole batch: first the vertical, then the horizontal offset, each a multiple of 8.

    As in the reference the upper bound is exclusive: with a margin that is a multiple of 8, the last possible
    position is never drawn.

    Args:
        size: height and width of the image, pixels.
        crop: height and width of the detail crop, pixels.

    Raises:
        RecipeError: the crop is larger than the image.
    """
    if crop[0] > size[0] or crop[1] > size[1]:
        raise RecipeError(f"detail crop {crop} is larger than the training crop {size}; choose a smaller detail_crop")
    y1, x1 = (_draw_offset(whole - part, rng) for whole, part in zip(size, crop, strict=True))
    return CropBox(y1, y1 + crop[0], x1, x1 + crop[1])


def _draw_offset(margin: int, rng: np.random.RandomState) -> int:
    positions = (margin + 1) // _DIVISIBLE
    return _DIVISIBLE * int(rng.randint(0, positions)) if positions else 0
