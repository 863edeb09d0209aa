"""Which pixels of a camera's pictures count: what the node masks, and what adaptation leaves out, from one file.

    /front/image_raw:                                # the image topic
      size: [1920, 1080]                             # width and height of the pictures, pixels
      region: [[0, 240], [1920, 240], [1920, 1080], [0, 1080]]    # what lies outside does not count
      ego_vehicle: front_hood.png                    # white = the vehicle itself, which does not count

Either is a polygon of [x, y] points, several of them, or a PNG of that size beside the file; what is left out is all of
the picture, and nothing of it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import DataError, ImageError, TextError, one_line, proposal, shown
from hrda_core.plain_files import open_file
from hrda_core.untrusted_text import read_yaml_file

__all__ = ["CameraArea", "CameraAreas"]

UInt8Array = npt.NDArray[np.uint8]

_KEYS = ("size", "region", "ego_vehicle")
_LARGEST_SIDE = 16384
_MOST_MEGAPIXELS = 256  # of all pictures of a file; each pixel is a byte in memory for as long as the node runs
_MOST_POLYGONS = 100
_LARGEST_PNG = 64 << 20
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, eq=False)
class CameraArea:
    """The pixels of a camera's pictures that count.

    Attributes:
        counts: uint8 (H, W), 255 where a pixel counts, else 0; somewhere it does.
    """

    counts: UInt8Array
    _resized: dict[tuple[int, int], CameraArea] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def outside(self) -> UInt8Array:
        """uint8 (H, W), 255 where a pixel does not count, else 0."""
        return np.bitwise_not(self.counts)

    def check(self, height: int, width: int) -> None:
        """Refuse a picture of another size.

        Raises:
            ImageError: cause `area`.
        """
        if (height, width) != self.counts.shape:
            raise ImageError(
                f"the picture has {width}x{height} pixels, but the camera's area is for "
                f"{self.counts.shape[1]}x{self.counts.shape[0]}; write the size that the camera sends into the file of "
                f"camera_areas",
                "area",
            )

    def mask(self, labels: UInt8Array, confidence: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
        """Return class ids, 255 where a pixel does not count, and confidence, 0 there: uint8 (H, W) each, new.

        A confidence without pixels, of a network that gives none, stays so.
        """
        sure = cv2.bitwise_and(confidence, self.counts) if confidence.size else confidence
        return np.asarray(cv2.bitwise_or(labels, self.outside), np.uint8), np.asarray(sure, np.uint8)

    def of_size(self, height: int, width: int) -> CameraArea:
        """Return the area of masks that are resized from pictures; a pixel counts if all that it stands for do."""
        if (height, width) == self.counts.shape:
            return self
        if (height, width) not in self._resized:
            self._resized.clear()  # masks change their size with the model, not from frame to frame
            resized = cv2.resize(self.counts, (width, height), interpolation=cv2.INTER_AREA)
            self._resized[height, width] = CameraArea(np.where(resized == 255, np.uint8(255), np.uint8(0)))
        return self._resized[height, width]

    @cached_property
    def rectangle(self) -> tuple[slice, slice]:
        """Rows and columns of the largest rectangle in which every pixel counts."""
        return _largest_rectangle(self.counts)

    def cut(self, picture: UInt8Array) -> UInt8Array:
        """Return that rectangle of a picture, uint8 (H, W, 3), as a view.

        Raises:
            ImageError: the picture has another size; cause `area`.
        """
        self.check(*picture.shape[:2])
        return picture[self.rectangle]


@dataclass(frozen=True, eq=False)
class CameraAreas:
    """The areas of a file.

    Attributes:
        path: the file.
        areas: area by image topic, without `/compressed` at its end.
    """

    path: Path
    areas: Mapping[str, CameraArea]

    @classmethod
    def read(cls, path: Path) -> CameraAreas:
        """Read a file and the PNGs that it names.

        Raises:
            DataError: the file or a PNG is missing or damaged, a key or a value makes no sense, a PNG has another size,
                or a polygon lies outside the picture.
        """
        what = f"camera areas '{shown(path)}'"
        try:
            values = read_yaml_file(path)
        except (OSError, TextError) as error:
            raise DataError(f"{what} cannot be read: {one_line(error)}; give a YAML file") from error
        if not isinstance(values, dict) or not values:
            raise DataError(
                f"{what} names no camera; write the full name of an image topic, such as /front/image_raw, and below "
                f"it {', '.join(_KEYS)}"
            )
        areas: dict[str, CameraArea] = {}
        pixels = 0
        for topic, row in values.items():
            where, name = f"{what}, {shown(topic)}", _bare(str(topic))
            if name in areas:
                raise DataError(f"{where} stands there twice, with and without /compressed; remove one of them")
            height, width = _size(where, row)
            pixels += height * width
            if pixels > _MOST_MEGAPIXELS * 1_000_000:  # before any of it is made
                raise DataError(
                    f"{where} brings the pictures of the file to more than {_MOST_MEGAPIXELS} million pixels together; "
                    f"write the sizes that the cameras send, or give each node a file of its own"
                )
            areas[name] = _area(where, row, path.parent, (height, width))
        return cls(path, areas)

    def of(self, topics: Collection[str]) -> dict[str, CameraArea]:
        """Return the areas of image topics; one that the file does not name has none.

        Args:
            topics: full names, with or without `/compressed` at their end.

        Raises:
            DataError: the file names none of the topics.
        """
        found = {topic: self.areas[_bare(topic)] for topic in topics if _bare(topic) in self.areas}
        if not found:
            named, there = (", ".join(f"'{shown(name)}'" for name in sorted(names)) for names in (self.areas, topics))
            raise DataError(
                f"camera areas '{shown(self.path)}' are for {named}, but the images are on {there}; write the full "
                f"name of the topic into the file"
            )
        return found

    @property
    def digest(self) -> str:
        """A hash of what counts, for the identity of a result."""
        digest = hashlib.sha256()
        for topic, area in sorted(self.areas.items()):
            digest.update(f"{topic} {area.counts.shape} ".encode())
            digest.update(area.counts.tobytes())
        return digest.hexdigest()


def _bare(topic: str) -> str:
    return topic.removesuffix("/compressed")


def _area(what: str, values: dict[Any, Any], folder: Path, size: tuple[int, int]) -> CameraArea:
    counts = np.full(size, 255, np.uint8)
    if "region" in values:
        counts = _drawn(f"{what}, region", values["region"], folder, size)
    if "ego_vehicle" in values:
        counts = counts & ~_drawn(f"{what}, ego_vehicle", values["ego_vehicle"], folder, size)
    if not counts.any():
        raise DataError(f"{what} leaves no pixel that counts; make region larger or ego_vehicle smaller")
    return CameraArea(counts)


def _size(what: str, values: Any) -> tuple[int, int]:
    if not isinstance(values, dict):
        raise DataError(f"{what} must have the keys {', '.join(_KEYS)}, not {shown(values)}")
    for key in values:
        if key not in _KEYS:
            raise DataError(f"{what} has the key '{shown(key)}'; {proposal(str(key), _KEYS)}")
    value = values.get("size")
    sides = value if isinstance(value, list) else []
    whole = [side for side in sides if type(side) is int and 1 <= side <= _LARGEST_SIDE]
    if len(sides) != 2 or len(whole) != 2:
        raise DataError(
            f"{what} must have the size of the pictures, [width, height] from 1 to {_LARGEST_SIDE} pixels, as in size: "
            f"[1920, 1080]; found {shown(value)}"
        )
    return whole[1], whole[0]


def _drawn(what: str, value: Any, folder: Path, size: tuple[int, int]) -> UInt8Array:
    """What a polygon or a PNG covers: uint8 (H, W), 255 or 0."""
    if isinstance(value, str):
        return _of_png(what, folder / value, size)
    polygons = [value] if _is_polygon(value) else value
    if not isinstance(polygons, list) or not polygons or not all(map(_is_polygon, polygons)):
        raise DataError(
            f"{what} is a polygon of at least three points, several polygons, or the name of a PNG, as in [[0, 900], "
            f"[1920, 900], [1920, 1080], [0, 1080]]; found {shown(value)}"
        )
    if len(polygons) > _MOST_POLYGONS:
        raise DataError(f"{what} has {len(polygons)} polygons, and {_MOST_POLYGONS} are the most; draw a PNG")
    covered = np.zeros(size, np.uint8)
    for polygon in polygons:
        for x, y in polygon:
            if not (0 <= x <= size[1] and 0 <= y <= size[0]):
                raise DataError(
                    f"{what} has the point [{x}, {y}], which lies outside the picture of {size[1]}x{size[0]} pixels; "
                    f"x is 0 to {size[1]}, y 0 to {size[0]}"
                )
        cv2.fillPoly(covered, [np.rint(np.asarray(polygon, np.float64)).astype(np.int32)], 255)
    return covered


def _is_polygon(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 3
        and all(isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in value)
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _of_png(what: str, path: Path, size: tuple[int, int]) -> UInt8Array:
    try:
        content = _stored(path)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise DataError(
            f"{what}: '{shown(path)}' cannot be read: {reason}; names are relative to the folder of that file"
        ) from error
    if len(content) > _LARGEST_PNG:
        raise DataError(f"{what}: '{shown(path)}' is larger than {_LARGEST_PNG >> 20} MiB; save it as PNG again")
    if not content.startswith(_PNG) or len(content) < 24:
        raise DataError(f"{what}: '{shown(path)}' is no PNG; draw the area in white on black and save it as PNG")
    width, height = struct.unpack(">II", content[16:24])
    if (height, width) != size:  # by the header: a picture of another size is never unpacked
        raise DataError(
            f"{what}: '{shown(path)}' has {width}x{height} pixels, but the pictures have {size[1]}x{size[0]}; draw it "
            f"on a picture of the camera"
        )
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    if picture is None or picture.shape != size:
        raise DataError(f"{what}: '{shown(path)}' is damaged; save it again")
    return np.asarray(np.where(picture > 127, 255, 0), np.uint8)


def _stored(path: Path) -> bytes:
    """The content of a file, and one byte beyond the limit at most."""
    with open_file(path) as file:
        return file.read(_LARGEST_PNG + 1)


def _largest_rectangle(counts: UInt8Array) -> tuple[slice, slice]:
    """By the rectangle above each pixel of a row that is as high as pixels count there, and as wide as it then can be.

    A step for each row and none for each pixel: a stack of heights takes seconds for a noisy picture of 1080p.
    """
    width = counts.shape[1]
    columns = np.arange(width)
    heights, left, right = np.zeros_like(columns), np.zeros_like(columns), np.full_like(columns, width)
    best, found = 0, (slice(0, 0), slice(0, 0))
    for row in range(counts.shape[0]):
        free = counts[row] > 0
        begin = np.maximum.accumulate(np.where(free, 0, columns + 1))
        end = np.minimum.accumulate(np.where(free, width, columns)[::-1])[::-1]
        heights = np.where(free, heights + 1, 0)
        left = np.where(free, np.maximum(left, begin), 0)
        right = np.where(free, np.minimum(right, end), width)
        areas = heights * (right - left)
        at = int(areas.argmax())
        if areas[at] > best:
            best = int(areas[at])
            found = (slice(row + 1 - int(heights[at]), row + 1), slice(int(left[at]), int(right[at])))
    return found
