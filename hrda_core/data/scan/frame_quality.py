"""Describes a camera frame in a few numbers: light, sharpness, structure, a small descriptor, motion.

A frame is shrunk to a width of `WIDTH` first, so the numbers mean the same for any camera. Only `structure` looks at
single pixels, since shrinking would average out the noise that it is meant to find.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.data.image_files import UInt8Array

__all__ = ["DESCRIPTOR_SHAPE", "ROWS", "WIDTH", "FrameQuality", "measure", "motion_between", "thumbnail", "view_of"]

WIDTH = 320
ROWS = 360
"""Rows of a frame that are enough for all numbers."""

DESCRIPTOR_SHAPE = (6, 8, 3)
"""Rows, columns, channels of the colour layout."""

_DARK, _BLOWN = 16, 240  # below and above these a pixel tells next to nothing
_VIEW_SIZE = (64, 48)
_SAMPLED_SIDE = 128
_BLOCK = 16  # pixels at the width of WIDTH

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FrameQuality:
    """Measures of one frame; they take about half a kilobyte.

    Attributes:
        luminance: mean of the grey image, 0..255.
        dark, blown: share of pixels below 16 and above 240, 0..1.
        sharpness: variance of the Laplacian over the variance of the grey image, 0 or more. Halving the contrast
            leaves it as it is, so dusk is not taken for blur.
        structure: share of the variance of single pixels that is left between blocks of 1/20 of the width, 0..1:
            below 0.1 for sensor noise and for a plain surface, above 0.5 for streets.
        motion: difference from the previous analysed frame, in units of the contrast; NaN for the first frame. It is
            0.02 or less where camera and scene stand still, above 0.04 where they move.
        descriptor: mean colours of a grid, float16 `DESCRIPTOR_SHAPE`, 0..1.
    """

    luminance: float
    dark: float
    blown: float
    sharpness: float
    structure: float
    motion: float
    descriptor: npt.NDArray[np.float16] = field(repr=False)


def thumbnail(rgb: UInt8Array, width: int = 0, height: int = 0) -> UInt8Array:
    """Resize the frame to a width of `WIDTH`, uint8 (h, WIDTH, 3); narrower frames are enlarged.

    Args:
        rgb: uint8 (H, W, 3), or every n-th row of a frame of `height` x `width`.
    """
    height = max(_BLOCK, round((height or rgb.shape[0]) * WIDTH / (width or rgb.shape[1])))
    small = rgb
    # By halves, which OpenCV does four times as fast as any other factor.
    while small.shape[1] >= 2 * WIDTH and small.shape[0] >= 2 * height:
        half = small.shape[1] // 2, small.shape[0] // 2
        small = np.asarray(cv2.resize(small[: 2 * half[1], : 2 * half[0]], half, interpolation=cv2.INTER_AREA))
    method = cv2.INTER_AREA if small.shape[1] >= WIDTH else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(small, (WIDTH, height), interpolation=method), np.uint8)


def measure(rgb: UInt8Array, small: UInt8Array, motion: float) -> FrameQuality:
    """Measure a frame.

    Args:
        rgb: uint8 (H, W, 3), or every n-th row.
        small: the frame as `thumbnail` makes it.
        motion: see `motion_between`; NaN where there is no earlier frame.
    """
    grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256])
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    rows, columns, _ = DESCRIPTOR_SHAPE
    # As floats: rounded to whole grey levels, a night's frames would all differ by the rounding.
    layout = cv2.resize(small.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    return FrameQuality(
        luminance=float(grey.mean()),
        dark=float(counts[:_DARK].sum() / grey.size),
        blown=float(counts[_BLOWN + 1 :].sum() / grey.size),
        # One grey level more in the denominator keeps a plain surface from having endless sharpness.
        sharpness=_variance(edges) / (_variance(grey) + 1.0),
        structure=_structure(rgb, grey),
        motion=motion,
        descriptor=(layout / 255).astype(np.float16),
    )


def view_of(small: UInt8Array) -> FloatArray:
    """Return a small grey view by which two frames are compared, float32 (48, 64), 0..255."""
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.asarray(cv2.resize(grey, _VIEW_SIZE, interpolation=cv2.INTER_AREA), np.float32)


def motion_between(before: FloatArray, after: FloatArray) -> float:
    """Return the mean difference of two views over their contrast; a change of exposure alone counts as none."""
    centred = before - before.mean(), after - after.mean()
    contrast = float(centred[0].std() + centred[1].std()) / 2
    return float(np.abs(centred[1] - centred[0]).mean()) / (contrast + 1.0)


def _structure(rgb: UInt8Array, grey: UInt8Array) -> float:
    """Variance between blocks over variance of pixels. Pixels are a sample: all of them would take milliseconds."""
    rows, columns = (max(1, side // _SAMPLED_SIDE) for side in rgb.shape[:2])
    pixels = cv2.cvtColor(np.ascontiguousarray(rgb[::rows, ::columns]), cv2.COLOR_RGB2GRAY)
    size = WIDTH // _BLOCK, max(2, grey.shape[0] // _BLOCK)
    blocks = cv2.resize(grey.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return min(1.0, _variance(blocks) / (_variance(pixels) + 1.0))


def _variance(grey: npt.NDArray[Any]) -> float:
    """By OpenCV, which is ten times as fast as numpy for bytes."""
    return float(cv2.meanStdDev(grey)[1][0, 0]) ** 2
