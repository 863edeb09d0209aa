"""Pictures of masks: palette lookup and blending, written straight into memory that the caller gives."""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.inference.predictor import Prediction

__all__ = ["OUTPUTS", "blend", "colorize", "draw_outputs"]

UInt8Array = npt.NDArray[np.uint8]

_COLOR_MAP_COPIES = tuple(int(part) for part in cv2.__version__.split(".")[:2]) < (4, 6)
"""`applyColorMap` of OpenCV 4.5 (Ubuntu 22.04) makes its own copy of the picture and does there what is done here."""

OUTPUTS = ("labels", "color", "overlay", "confidence")
"""What can be made of a prediction: masks of one channel, and pictures in RGB."""


def colorize(labels: UInt8Array, table: UInt8Array, out: UInt8Array | None = None) -> UInt8Array:
    """Return the colours of class ids.

    Args:
        labels: uint8 (H, W).
        table: uint8 (256, 3), as `LabelSpace.color_table` gives it.
        out: uint8 (H, W, 3), C-contiguous, written and returned; None = a new array.

    Returns:
        uint8 (H, W, 3), in the colour order of the table.
    """
    if out is None:
        out = np.empty((*labels.shape, 3), np.uint8)
    if _COLOR_MAP_COPIES:
        cv2.cvtColor(labels, cv2.COLOR_GRAY2RGB, out)
        cv2.LUT(out, table.reshape(1, 256, 3), out)
        return out
    # Of the ways to look up three channels this is the fastest by a factor of three to four (1.8 ms at 1080p,
    # against 5.5 ms for merge + LUT and 7.7 ms for numpy.take), and it needs no index array.
    cv2.applyColorMap(labels, table.reshape(256, 1, 3), out)
    return out


def blend(rgb: UInt8Array, color: UInt8Array, alpha: float, out: UInt8Array | None = None) -> UInt8Array:
    """Compute `(1 - alpha) * rgb + alpha * color`, rounded.

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


def draw_outputs(
    rgb: UInt8Array, prediction: Prediction, names: Collection[str], table: UInt8Array, alpha: float
) -> dict[str, UInt8Array]:
    """Return the requested outputs of one image, the same bytes as the node publishes.

    Args:
        rgb: uint8 (H, W, 3), RGB.
        prediction: masks of that size.
        names: some of `OUTPUTS`.
        table: uint8 (256, 3) RGB, colour of each class id.
        alpha: weight of the colours in the overlay, 0 to 1.

    Returns:
        by name, in the order of `OUTPUTS`: uint8 (H, W) for `labels` and `confidence`, (H, W, 3) RGB for the pictures.
    """
    drawn = {"labels": prediction.labels, "confidence": prediction.confidence}
    if "color" in names or "overlay" in names:
        drawn["color"] = colorize(prediction.labels, table)
    if "overlay" in names:
        drawn["overlay"] = blend(rgb, drawn["color"], alpha)
    return {name: drawn[name] for name in OUTPUTS if name in names}
