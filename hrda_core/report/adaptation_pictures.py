"""Before and after: the pictures of a frame whose classes changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.labels import LabelSpace
from hrda_core.report.contact_sheet import jpeg_bytes

__all__ = ["ChangedFrame", "classes_in", "draw_mask", "draw_rgb", "draw_what_changed"]

UInt8Array = npt.NDArray[np.uint8]

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
    """The frame as JPEG, at most 640 pixels wide."""
    return jpeg_bytes(_fit(rgb, cv2.INTER_AREA))


def draw_mask(labels: UInt8Array, space: LabelSpace) -> bytes:
    """The mask, (H, W) ids, in the colours of its classes as PNG, at most 640 pixels wide."""
    return _png(space.color_table()[_fit(labels, cv2.INTER_NEAREST)])


def draw_what_changed(rgb: UInt8Array, before: UInt8Array, after: UInt8Array, space: LabelSpace) -> bytes:
    """The frame in pale grey, with pixels whose class changed in the colour of the new one, as PNG."""
    old, new = (_fit(labels, cv2.INTER_NEAREST) for labels in (before, after))
    small = cv2.resize(rgb, new.shape[::-1], interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    picture = np.repeat((255 * _PALE + (1 - _PALE) * grey).astype(np.uint8)[..., None], 3, axis=2)
    picture[old != new] = space.color_table()[new[old != new]]
    return _png(picture)


def classes_in(frames: Sequence[ChangedFrame], candidates: Sequence[str]) -> list[int]:
    """Ids that the masks of these candidates hold, ascending."""
    found = [np.unique(frame.labels[name]) for frame in frames for name in candidates]
    return sorted({int(value) for values in found for value in values})


def _fit(picture: UInt8Array, method: int) -> UInt8Array:
    height, width = picture.shape[:2]
    if width <= _WIDEST:
        return picture
    return np.asarray(cv2.resize(picture, (_WIDEST, max(1, round(height * _WIDEST / width))), interpolation=method))


def _png(rgb: UInt8Array) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()
