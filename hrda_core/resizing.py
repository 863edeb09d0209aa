"""Resizes images in the same way for the robot, the recordings and the training.

A camera image that is larger than a model's `long_side` is shrunk to it by area average wherever the model meets it:
in the node and `hrda predict`, where BatchNorm statistics are measured, where the model is trained on a drive, and
where it is judged. The model therefore learns from what it will see. The papers resize bilinearly instead, which skips
pixels when it shrinks by more than a factor of two; recipes that follow them say so (`crop.interpolation`).
"""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["INTERPOLATIONS", "Interpolation", "keep_ratio_size", "resize_image", "resize_map", "shrink", "shrunk"]

Interpolation = Literal["bilinear", "area"]
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)

UInt8Array = npt.NDArray[np.uint8]


def shrunk(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Return height and width after the longer side is shrunk to at most `long_side` pixels, ratio kept; 0 = never."""
    longest = max(height, width)
    if not 0 < long_side < longest:
        return height, width
    return max(1, round(height * long_side / longest)), max(1, round(width * long_side / longest))


def shrink(rgb: UInt8Array, long_side: int) -> UInt8Array:
    """Shrink an image to what a model with this `long_side` sees: uint8 (H, W, 3) -> uint8 (`shrunk` size, 3)."""
    return resize_image(rgb, *shrunk(rgb.shape[0], rgb.shape[1], long_side), "area")


def keep_ratio_size(height: int, width: int, limit: tuple[int, int] | None) -> tuple[int, int]:
    """Return the size, (height, width), of an image that is resized to fit `limit` as in the papers; None = unchanged.

    The ratio is kept and the tighter of the two limits counts: 1052 x 1914 within (1280, 720) becomes 704 x 1280.
    Smaller images are enlarged.
    """
    if limit is None:
        return height, width
    factor = min(max(limit) / max(height, width), min(limit) / min(height, width))
    return int(height * factor + 0.5), int(width * factor + 0.5)


def resize_image(image: UInt8Array, height: int, width: int, interpolation: Interpolation) -> UInt8Array:
    """Resize uint8 (H, W, 3) to uint8 (height, width, 3); return the image itself if it already has that size.

    Args:
        interpolation: `area` averages all pixels that fall into a new one, so that thin poles survive a strong
            reduction, and enlarges bilinearly; `bilinear` has no antialiasing, as in the papers.
    """
    if image.shape[:2] == (height, width):
        return image
    smaller = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if interpolation == "area" and smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def resize_map(labels: UInt8Array, height: int, width: int) -> UInt8Array:
    """Resize label maps, masks and their pictures by nearest neighbour: uint8 (H, W, ...) -> uint8 (h, w, ...)."""
    if labels.shape[:2] == (height, width):
        return labels
    return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
