"""How an image is resized: one place for the robot, the recordings and the training.

A camera image that is larger than a model's `long_side` is shrunk to it by area average, wherever the model meets it:
in the node and `hrda predict`, where BatchNorm statistics are measured, where it is trained on a drive, and where it is
judged. What it learns from is then what it will see. The papers resize bilinearly instead, which skips pixels when it
shrinks by more than two: their recipes say so (`crop.interpolation`).
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
    """Height and width after shrinking to a longer side of `long_side` pixels at most, ratio kept; 0 = never."""
    longest = max(height, width)
    if not 0 < long_side < longest:
        return height, width
    return max(1, round(height * long_side / longest)), max(1, round(width * long_side / longest))


def shrink(rgb: UInt8Array, long_side: int) -> UInt8Array:
    """An image as a model with this `long_side` sees it: uint8 (H, W, 3) -> uint8 (`shrunk` size, 3)."""
    return resize_image(rgb, *shrunk(rgb.shape[0], rgb.shape[1], long_side), "area")


def keep_ratio_size(height: int, width: int, limit: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of an image resized to fit `limit`, its ratio kept, as the papers; None = unchanged.

    1052 x 1914 within (1280, 720) becomes 704 x 1280: the tighter of the two limits counts. Smaller images are
    enlarged.
    """
    if limit is None:
        return height, width
    factor = min(max(limit) / max(height, width), min(limit) / min(height, width))
    return int(height * factor + 0.5), int(width * factor + 0.5)


def resize_image(image: UInt8Array, height: int, width: int, interpolation: Interpolation) -> UInt8Array:
    """uint8 (H, W, 3) -> uint8 (height, width, 3); the image itself where it has that size.

    Args:
        interpolation: `area` averages all pixels that fall into a new one, so that thin poles survive a strong
            reduction, and enlarges bilinearly; `bilinear` has no antialiasing, as the papers.
    """
    if image.shape[:2] == (height, width):
        return image
    smaller = height <= image.shape[0] and width <= image.shape[1]
    method = cv2.INTER_AREA if interpolation == "area" and smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def resize_map(labels: UInt8Array, height: int, width: int) -> UInt8Array:
    """Nearest neighbour, for label maps, masks and their pictures: uint8 (H, W, ...) -> uint8 (height, width, ...)."""
    if labels.shape[:2] == (height, width):
        return labels
    return np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)
