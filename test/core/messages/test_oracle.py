"""Every encoding against an oracle: plain Python that reads single bytes by the text of the message definition.

It shares nothing with the decoder: no OpenCV, no strides, no table of layouts.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest

from hrda_core.messages import ENCODINGS, decode_image

SIZES = [(1, 1), (1, 2), (2, 1), (3, 5), (7, 4), (6, 9)]
PADDINGS = [0, 1, 5]
TOLERANCE = 2.5
"""Of luma and chroma, grey levels: decoders count in whole numbers."""

Bytes = Callable[[int, int], int]
"""(row, byte of the row) to the byte."""
Color = tuple[float, float, float]


def _rgb_of_yuv(luma: int, u: int, v: int) -> Color:
    """ITU-R BT.601 in limited range."""
    y = max(0, luma - 16) * 255 / 219  # blacker than black is black
    red = y + (v - 128) * 255 / 112 * 0.701
    green = y - (u - 128) * 255 / 112 * 0.886 * 0.114 / 0.587 - (v - 128) * 255 / 112 * 0.701 * 0.299 / 0.587
    blue = y + (u - 128) * 255 / 112 * 0.886
    return tuple(min(255.0, max(0.0, value)) for value in (red, green, blue))  # type: ignore[return-value]


def _channels(count: int, order: tuple[int, int, int]) -> Callable[..., Color]:
    def color(at: Bytes, y: int, x: int, **_: object) -> Color:
        return tuple(at(y, count * x + channel) for channel in order)  # type: ignore[return-value]

    return color


def _sixteen(at: Bytes, y: int, x: int, *, big: bool, **_: object) -> Color:
    return (at(y, 2 * x + (0 if big else 1)),) * 3


def _packed_yuv(luma: tuple[int, int], u: int, v: int) -> Callable[..., Color]:
    def color(at: Bytes, y: int, x: int, **_: object) -> Color:
        pair = 4 * (x // 2)
        return _rgb_of_yuv(at(y, pair + luma[x % 2]), at(y, pair + u), at(y, pair + v))

    return color


def _two_planes(u: int, v: int) -> Callable[..., Color]:
    def color(at: Bytes, y: int, x: int, *, height: int, **_: object) -> Color:
        row, pair = height + y // 2, 2 * (x // 2)
        return _rgb_of_yuv(at(y, x), at(row, pair + u), at(row, pair + v))

    return color


def _bayer(pattern: str) -> Callable[..., Color]:
    def color(at: Bytes, y: int, x: int, *, height: int, width: int, **_: object) -> Color:
        y, x = min(max(y, 1), height - 2), min(max(x, 1), width - 2)  # the border is that of its neighbour inside
        near = [(y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1)]
        own = pattern[2 * (y % 2) + x % 2]

        def mean(letter: str) -> int:
            if letter == own:
                return at(y, x)
            # A colour of the neighbours: of the four beside it where green is asked for, else of all that have it.
            places = [(j, i) for j, i in near if pattern[2 * (j % 2) + i % 2] == letter]
            if letter == "g":
                places = [(j, i) for j, i in places if (j == y) != (i == x)]
            return (sum(at(j, i) for j, i in places) + len(places) // 2) // len(places)

        return mean("r"), mean("g"), mean("b")

    return color


UYVY, YUYV = _packed_yuv((1, 3), 0, 2), _packed_yuv((0, 2), 1, 3)
ORACLES: dict[str, tuple[Callable[..., Color], float]] = {
    "rgb8": (_channels(3, (0, 1, 2)), 3),
    "bgr8": (_channels(3, (2, 1, 0)), 3),
    "8UC3": (_channels(3, (2, 1, 0)), 3),
    "rgba8": (_channels(4, (0, 1, 2)), 4),
    "bgra8": (_channels(4, (2, 1, 0)), 4),
    "8UC4": (_channels(4, (2, 1, 0)), 4),
    "mono8": (_channels(1, (0, 0, 0)), 1),
    "8UC1": (_channels(1, (0, 0, 0)), 1),
    "mono16": (_sixteen, 2),
    "16UC1": (_sixteen, 2),
    "yuv422": (UYVY, 2),
    "uyvy": (UYVY, 2),
    "yuv422_yuy2": (YUYV, 2),
    "yuyv": (YUYV, 2),
    "nv12": (_two_planes(0, 1), 1),
    "nv21": (_two_planes(1, 0), 1),
    **{f"bayer_{pattern}8": (_bayer(pattern), 1) for pattern in ("rggb", "bggr", "gbrg", "grbg")},
}
"""Encoding to (colour of a pixel, bytes of a pixel in a row)."""


def test_m5_the_oracle_knows_every_encoding() -> None:
    assert set(ORACLES) == set(ENCODINGS)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_m5_every_pixel_equals_the_oracle_at_any_size_padding_and_byte_order(encoding: str) -> None:
    color, pixel_bytes = ORACLES[encoding]
    in_pairs = "yuv" in encoding or "yv" in encoding or encoding.startswith("nv")
    generator = np.random.default_rng(ENCODINGS.index(encoding))
    compared = 0
    for height, width in SIZES:
        if encoding.startswith("bayer") and min(height, width) < 3:
            continue  # a mosaic without a pixel inside has no colour
        for padding in PADDINGS:
            step = int(pixel_bytes * (width + (width % 2 if in_pairs else 0))) + padding
            rows = height + ((height + 1) // 2 if encoding.startswith("nv") else 0)
            data = generator.integers(0, 256, rows * step, np.uint8).tobytes()
            for big in (False, True):
                message = SimpleNamespace(
                    height=height, width=width, encoding=encoding, step=step, is_bigendian=int(big), header=None,
                    data=array.array("B", data),
                )  # fmt: skip
                rgb = decode_image(message)

                def at(row: int, byte: int, data: bytes = data, step: int = step) -> int:
                    return data[row * step + byte]

                expected = [
                    [color(at, y, x, height=height, width=width, big=big) for x in range(width)] for y in range(height)
                ]
                worst = np.abs(rgb.astype(float) - np.array(expected)).max()
                assert worst <= (TOLERANCE if in_pairs else 0), (height, width, padding, big)
                compared += 1
    assert compared >= 18
