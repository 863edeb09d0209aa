"""The pictures of a question: a crop around its pixel, and the whole frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hrda_core.comparison.disagreement import Question
from hrda_core.comparison.drive import Drive
from hrda_core.data.image_files import UInt8Array, encoded
from hrda_core.resizing import shrink
from hrda_core.whole_files import write_whole

__all__ = ["View", "draw_questions", "picture_name"]

_CROP_SHARE, _SMALLEST_CROP = 0.45, 128
"""Side of the crop as a share of the frame's shorter one, and at least so many pixels, so that things are known."""

_FRAME_SIDE = 640


@dataclass(frozen=True)
class View:
    """Where the pixel of a question is in its pictures; all values are shares of width or height, 0..1.

    Attributes:
        x, y: the pixel in the crop.
        left, top, width, height: the crop in the frame.
    """

    x: float
    y: float
    left: float
    top: float
    width: float
    height: float


def draw_questions(folder: Path, drive: Drive, questions: Sequence[Question]) -> list[View]:
    """Write the pictures, each frame read once, and return where the pixels are in them."""
    views: dict[int, View] = {}
    frame, rgb = -1, None
    for number in sorted(range(len(questions)), key=lambda number: questions[number].frame):
        question = questions[number]
        if rgb is None or question.frame != frame:
            frame, rgb = question.frame, drive.load(question.frame)
            small = encoded(shrink(rgb, _FRAME_SIDE), ".jpg", quality=90)
        crop, views[number] = _crop(rgb, question.x, question.y)
        write_whole(folder / picture_name(number, "crop"), encoded(crop, ".jpg"))
        write_whole(folder / picture_name(number, "frame"), small)
    return [views[number] for number in range(len(questions))]


def picture_name(number: int, kind: str) -> str:
    """Return the path of a picture in the folder; `kind` is `crop` or `frame`."""
    return f"pictures/{number:03d}_{kind}.jpg"


def _crop(rgb: UInt8Array, x: int, y: int) -> tuple[UInt8Array, View]:
    """A square around a pixel, as far as the image reaches; at a border the pixel is not in its middle."""
    height, width = rgb.shape[:2]
    side = min(max(round(_CROP_SHARE * min(height, width)), _SMALLEST_CROP), height, width)
    left, top = (min(max(at - side // 2, 0), full - side) for at, full in ((x, width), (y, height)))
    view = View(
        (x + 0.5 - left) / side, (y + 0.5 - top) / side, left / width, top / height, side / width, side / height
    )
    return rgb[top : top + side, left : left + side], view
