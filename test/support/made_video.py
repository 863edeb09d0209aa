"""Packets of a moving picture as encoders write them. Needs PyAV."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
import pytest

av = pytest.importorskip("av")

HEIGHT, WIDTH = 96, 128
KEY_EVERY = 10
ENCODERS = {"h264": "libx264", "hevc": "libx265"}


class Packet(NamedTuple):
    """Number of the picture in the order in which pictures are shown, and bytes."""

    number: int
    data: bytes


@cache
def _wide() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, 600, 3), np.uint8)
    return cv2.GaussianBlur(noise, (15, 15), 5)


def street_at(number: int) -> np.ndarray:
    """RGB; the view moves by four pixels from one number to the next."""
    return np.ascontiguousarray(_wide()[:, 4 * number : 4 * number + WIDTH])


@cache
def packets(codec: str, count: int = 30, b_frames: int = 2) -> tuple[Packet, ...]:
    """Packets in the order of encoding; a key frame begins every `KEY_EVERY` pictures."""
    encoder = av.CodecContext.create(ENCODERS[codec], "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.thread_count = Fraction(1, 30), 30, 1
    rules = f"keyint={KEY_EVERY}:min-keyint={KEY_EVERY}:scenecut=0:bframes={b_frames}:b-adapt=0"
    encoder.options = {"preset": "ultrafast", f"{ENCODERS[codec][3:]}-params": rules}
    if codec == "hevc":
        encoder.options = {"preset": "ultrafast", "x265-params": f"{rules}:open-gop=0:log-level=none"}
    found = []
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(street_at(number), format="rgb24")
        frame.pts = number
        found += encoder.encode(frame)
    found += encoder.encode(None)
    return tuple(Packet(int(packet.pts), bytes(packet)) for packet in found)
