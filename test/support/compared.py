"""Two models that disagree on half of every image, where A is right, and a person who knows it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from tiny_bundle import write_tiny_bundle

FRAMES = 5


def write_compared(folder: Path, sides: tuple[int, int] = (64, 128)) -> Path:
    """Write the bundles `a` (named red) and `b` (blue), which read another channel each, and images in `drive`."""
    write_tiny_bundle(folder / "a", name="red")
    write_tiny_bundle(folder / "b", name="blue", default_plan="context")
    (folder / "drive").mkdir()
    rng = np.random.default_rng(0)
    height, width = sides
    for number in range(FRAMES):
        rgb = np.repeat(rng.integers(0, 256, (height, width, 1), np.uint8), 3, axis=2)
        rgb[:, width // 2 :, 2] = rng.integers(0, 256, (height, width - width // 2))
        cv2.imwrite(str(folder / "drive" / f"{number}.png"), rgb[..., ::-1])
    return folder
