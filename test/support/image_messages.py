"""Image messages as plain objects with the fields of the ROS messages."""

from __future__ import annotations

import array
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hrda_core.errors import ImageError
from hrda_core.messages import decode_image

GENERATOR = np.random.default_rng(3)


def image(pixels: np.ndarray, encoding: str, padding: int = 0, **fields: Any) -> SimpleNamespace:
    """An image message of an array, with `padding` bytes of noise behind each row."""
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    noise = GENERATOR.integers(0, 256, (height, padding), np.uint8)
    data = array.array("B", np.hstack([rows, noise]).tobytes())
    values = {
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": rows.shape[1] + padding,
    }
    return SimpleNamespace(**{**values, "data": data, "header": None, **fields})


def random_image(height: int, width: int, channels: int) -> np.ndarray:
    return GENERATOR.integers(0, 256, (height, width, channels), np.uint8)


def refusal(message: Any, decode: Any = decode_image) -> str:
    """The cause that a message is refused with."""
    with pytest.raises(ImageError) as error:
        decode(message)
    return error.value.cause
