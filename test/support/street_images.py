"""Small made-up labelled images: sky above, road below, a car in the middle."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

ROAD, SKY, CAR = 0, 10, 13


def write_street_images(folder: Path, *, count: int, size: tuple[int, int] = (96, 128)) -> tuple[Path, Path]:
    """Write `count` pairs below folder/images/train and folder/labels/train; returns (images, labels)."""
    height, width = size
    for kind in ("images", "labels"):
        (folder / kind / "train").mkdir(parents=True, exist_ok=True)
    for index in range(count):
        rng = np.random.default_rng(index)
        labels = np.full(size, ROAD, np.uint8)
        labels[: height // 2] = SKY
        left = int(rng.integers(0, width // 2))
        labels[height // 3 : 2 * height // 3, left : left + width // 3] = CAR
        colours = np.zeros((256, 3), np.uint8)
        colours[[ROAD, SKY, CAR]] = [(90, 90, 90), (220, 180, 120), (30, 30, 200)]
        image = cv2.add(colours[labels], rng.integers(0, 20, (*size, 3), np.uint8))
        cv2.imwrite(str(folder / "images" / "train" / f"frame{index}.jpg"), image)
        cv2.imwrite(str(folder / "labels" / "train" / f"frame{index}.png"), labels)
    return folder / "images", folder / "labels"
