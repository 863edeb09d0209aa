"""Chooses crops and scales for the images at hand, such that objects of source and target have about one size."""

from __future__ import annotations

from dataclasses import dataclass

from hrda_core.errors import DataError
from hrda_core.window_plan import Size

__all__ = ["CROP_STEP", "Scales", "fitting_crop", "scales"]

CROP_STEP = 64
"""Half of a crop, the detail crop, is a multiple of 32: the encoder's stride."""

_SMALLEST = 0.75
"""Scale that target images are shrunk to at most, if the crop still fits."""


@dataclass(frozen=True)
class Scales:
    """Ranges of the random factors by which images are resized before they are cropped."""

    source: tuple[float, float]
    target: tuple[float, float]


def fitting_crop(image: Size, share: float, limit: int = 2**31) -> Size:
    """Return height and width of a crop: this share of the image's sides in steps of `CROP_STEP`, at most `limit`.

    Raises:
        DataError: the image is too small for the smallest crop.
    """
    height, width = (int(min(side * share, limit)) // CROP_STEP * CROP_STEP for side in image)
    if min(height, width) < CROP_STEP:
        raise DataError(
            f"images of {image[1]}x{image[0]} pixels are too small to train on; expected at least "
            f"{round(CROP_STEP / share + 0.5)} pixels a side: give larger ones"
        )
    return height, width


def scales(crop: Size, target: Size, source: Size | None) -> Scales:
    """Return the scales for target and source images of these sizes, (height, width) in pixels.

    `source` None = the same size as the target.
    """
    smallest = min(1.0, max(_SMALLEST, crop[0] / target[0], crop[1] / target[1]))
    ratio = 1.0 if source is None else max(target) / max(source)
    return Scales((0.67 * ratio, 1.33 * ratio), (smallest, 1.0))
