"""A synthetic street-like image, for checks that need a picture and have none."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["golden_image"]


def golden_image(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Make an image with edges, gradients and texture, always the same: uint8 (1, height, width, 3).

    An image of the target domain is the better check: see the argument `golden` of `ensure_engine`.
    """
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3)).astype(np.float32)
    sky = 170 - 90 * rows / height
    road = 70 + 30 * np.sin(columns / 17) * (rows > 0.6 * height)
    blocks = 60 * ((rows // 48 + columns // 64) % 2)
    picture = np.stack([road + blocks, (sky + road) / 2 + 0.5 * blocks, sky], axis=-1) + noise
    return np.asarray(picture.clip(0, 255), np.uint8)[None]
