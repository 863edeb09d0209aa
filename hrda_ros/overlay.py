"""Pictures of masks: palette lookup and blending, written straight into memory that the caller gives."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["blend", "colorize"]

UInt8Array = npt.NDArray[np.uint8]


def colorize(labels: UInt8Array, table: UInt8Array, out: UInt8Array | None = None) -> UInt8Array:
    """Colours of class ids.

    Args:
        labels: uint8 (H, W).
        table: uint8 (256, 3), as `LabelSpace.color_table` gives it.
        out: uint8 (H, W, 3), C-contiguous, written and returned; None = a new array.

    Returns:
        uint8 (H, W, 3), in the colour order of the table.
    """
    if out is None:
        out = np.empty((*labels.shape, 3), np.uint8)
    # Of the ways to look up three channels this is the fastest by a factor of three to four (1.8 ms at 1080p,
    # against 5.5 ms for merge + LUT and 7.7 ms for numpy.take), and it needs no index array.
    cv2.applyColorMap(labels, table.reshape(256, 1, 3), out)
    return out


def blend(rgb: UInt8Array, color: UInt8Array, alpha: float, out: UInt8Array | None = None) -> UInt8Array:
    """`(1 - alpha) * rgb + alpha * color`, rounded.

    Args:
        rgb, color: uint8 (H, W, 3).
        alpha: weight of the colours, 0 to 1.
        out: uint8 (H, W, 3), C-contiguous, written and returned; may be `color`; None = a new array.

    Returns:
        uint8 (H, W, 3).
    """
    if out is None:
        out = np.empty(rgb.shape, np.uint8)
    cv2.addWeighted(rgb, 1.0 - alpha, color, alpha, 0.0, dst=out)
    return out
