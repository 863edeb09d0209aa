"""Size of a JPEG or PNG from its header, so that a picture of a billion pixels is refused before it is decoded.
Whether the parts of a file fit into it is looked at too, since decoders believe what a part states of its length.

A JPEG of one colour and 65500 x 65500 pixels has 600 bytes for every gigabyte that it takes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import IO

from hrda_core.errors import ImageError, RecipeError

__all__ = [
    "JPEG_START",
    "MAX_MEGAPIXELS",
    "PNG_START",
    "START_OF_SCAN",
    "check_limit",
    "check_pixels",
    "jpeg_segments",
    "picture_size",
    "png_is_whole",
]

MAX_MEGAPIXELS = 64
"""Largest picture that is decoded where nothing else is said, in millions of pixels."""

_LARGEST_LIMIT = 1024
"""OpenCV decodes no larger picture, whatever is declared."""

JPEG_START = b"\xff\xd8\xff"
PNG_START = b"\x89PNG\r\n\x1a\n"

START_OF_SCAN = 0xDA

_MOST_SEGMENTS = 1000
"""Cameras write about ten before the first scan, pictures with maps and colour profiles up to a few hundred."""

_MOST_CHUNKS = 1 << 17
"""A picture of 1,024 megapixels has so many chunks at 24 kB each."""

_FILL = re.compile(rb"\xff+")
# Markers without a length field: TEM, RST0..7, SOI.
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
# SOF0..15 without DHT, JPG and DAC, which share the range.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width that the header of a JPEG or PNG states; None where it states none."""
    if data.startswith(PNG_START):
        if data[12:16] != b"IHDR" or len(data) < 24:
            return None
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    for marker, place in jpeg_segments(data):
        if marker in _FRAME_MARKERS:
            height, width = data[place + 5 : place + 7], data[place + 7 : place + 9]
            return (int.from_bytes(height, "big"), int.from_bytes(width, "big")) if len(width) == 2 else None
    return None


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and place of each segment of a JPEG, up to the first scan or to what is no segment.

    Raises:
        ImageError: there are more than any picture has: millions would take seconds; cause `decode`.
    """
    place = 2
    for _ in range(_MOST_SEGMENTS):
        fill = _FILL.match(data, place)  # any number of bytes 0xFF may stand before a marker
        if fill is None or fill.end() + 3 > len(data):
            return
        place, marker = fill.end() - 1, data[fill.end()]
        yield marker, place
        if marker == START_OF_SCAN:
            return
        place += 2 if marker in _BARE_MARKERS else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    raise ImageError(f"a JPEG of more than {_MOST_SEGMENTS} segments before its first scan is not decoded", "decode")


def png_is_whole(file: IO[bytes]) -> bool:
    """Return whether all chunks of a PNG, up to the one that ends it, lie within the file.

    OpenCV reserves what a chunk of an animated PNG states as its length, up to 4 GB for a file of 700 bytes.

    Args:
        file: can be read and wound, and begins with `PNG_START`.

    Raises:
        ImageError: there are more chunks than any picture has; cause `decode`.
    """
    place, end = len(PNG_START), file.seek(0, os.SEEK_END)
    for _ in range(_MOST_CHUNKS):
        file.seek(place)
        head = file.read(8)
        place += 12 + int.from_bytes(head[:4], "big")
        if len(head) < 8 or place > end:
            return False
        if head[4:] == b"IEND":
            return True
    raise ImageError(f"a PNG of more than {_MOST_CHUNKS} chunks is not decoded", "decode")


def check_limit(max_megapixels: int) -> None:
    """Check a limit that a user declared.

    Raises:
        RecipeError: it is none.
    """
    if not 1 <= max_megapixels <= _LARGEST_LIMIT:
        raise RecipeError(f"max_megapixels is 1 to {_LARGEST_LIMIT} million pixels, not {max_megapixels}")


def check_pixels(height: int, width: int, max_megapixels: int = MAX_MEGAPIXELS) -> None:
    """Check the size of a picture before it is decoded.

    Raises:
        ImageError: it has more pixels than `max_megapixels` million; `cause` is `size`.
    """
    if height * width > max_megapixels * 1_000_000:
        raise ImageError(
            f"a picture of {height} x {width} pixels is larger than {max_megapixels} megapixels and is not decoded"
            " (max_megapixels)",
            "size",
        )
