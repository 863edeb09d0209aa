"""Pictures of a frame whose classes changed, before and after an adaptation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from hrda_core.data.image_files import UInt8Array, encoded
from hrda_core.labels import LabelSpace
from hrda_core.report.contact_sheet import jpeg_bytes
from hrda_core.resizing import resize_image, resize_map

__all__ = ["ChangedFrame", "classes_in", "draw_mask", "draw_rgb", "draw_what_changed"]


_WIDEST = 640
_PALE = 0.5
"""Share of white over what did not change, so that classes of dark colours stand out from it too."""


@dataclass(frozen=True, eq=False)
class ChangedFrame:
    """A held-out frame on which the candidates differ.

    Attributes:
        name: camera and time, such as "/camera/front 12.3 s".
        rgb: uint8 (H, W, 3).
        labels: candidate -> class ids, uint8 (H, W).
        changed: share of pixels with another class than the given model's, 0..1.
    """

    name: str
    rgb: UInt8Array
    labels: Mapping[str, UInt8Array]
    changed: float


def draw_rgb(rgb: UInt8Array) -> bytes:
    """Draw the frame as JPEG, at most 640 pixels wide."""
    return jpeg_bytes(resize_image(rgb, *_fitting(rgb), "area"))


def draw_mask(labels: UInt8Array, space: LabelSpace) -> bytes:
    """Draw the mask, (H, W) ids, in the colours of its classes as PNG, at most 640 pixels wide."""
    return encoded(space.color_table()[resize_map(labels, *_fitting(labels))])


def draw_what_changed(rgb: UInt8Array, before: UInt8Array, after: UInt8Array, space: LabelSpace) -> bytes:
    """Draw the frame in pale grey, with pixels whose class changed in the colour of the new one, as PNG."""
    size = _fitting(rgb)
    old, new = (resize_map(labels, *size) for labels in (before, after))
    grey = cv2.cvtColor(resize_image(rgb, *size, "area"), cv2.COLOR_RGB2GRAY)
    picture = np.repeat((255 * _PALE + (1 - _PALE) * grey).astype(np.uint8)[..., None], 3, axis=2)
    picture[old != new] = space.color_table()[new[old != new]]
    return encoded(picture)


def classes_in(frames: Sequence[ChangedFrame], candidates: Sequence[str]) -> list[int]:
    """Return the ids in the masks of these candidates, ascending."""
    found = [np.unique(frame.labels[name]) for frame in frames for name in candidates]
    return sorted({int(value) for values in found for value in values})


def _fitting(picture: UInt8Array) -> tuple[int, int]:
    """Height and width of a picture that is shrunk to `_WIDEST`."""
    height, width = picture.shape[:2]
    return (height, width) if width <= _WIDEST else (max(1, round(height * _WIDEST / width)), _WIDEST)
