"""A made two-domain set: the same simple streets, drawn with two palettes and two kinds of light.

Source and target share layout (sky above, buildings, road below, cars, people, poles) and differ in appearance: the
target is darker, its colours are turned, its textures noisier. A network trained on the source alone confuses classes
there, since colours that mean one thing in the source are near those of another in the target.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

CLASSES = {"road": 0, "building": 2, "pole": 5, "vegetation": 8, "sky": 10, "person": 11, "car": 13}
"""Train ids that occur."""

_COLOURS = {
    "road": (110, 105, 110),
    "building": (150, 110, 85),
    "pole": (215, 210, 120),
    "vegetation": (70, 135, 55),
    "sky": (120, 165, 225),
    "person": (205, 60, 90),
    "car": (45, 55, 165),
}
_NOISE = {"road": 8, "building": 22, "pole": 6, "vegetation": 38, "sky": 3, "person": 18, "car": 12}


def draw_street(rng: np.random.Generator, size: tuple[int, int], *, target: bool) -> tuple[np.ndarray, np.ndarray]:
    """One street: image uint8 (H, W, 3) RGB and labels uint8 (H, W)."""
    labels = _layout(rng, size)
    image = np.zeros((*size, 3), np.float32)
    for name, label in CLASSES.items():
        place = labels == label
        colour = np.array(_COLOURS[name]) + rng.normal(0, 10, 3)
        image[place] = colour + rng.normal(0, _NOISE[name], (int(place.sum()), 1))
    image += rng.normal(0, 4, image.shape)
    if target:
        image = _other_camera(image, rng)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def write_domain(folder: Path, count: int, *, target: bool, seed: int, size: tuple[int, int] = (96, 128)) -> Path:
    """Write folder/images and folder/labels; returns the folder."""
    rng = np.random.default_rng((seed, target))
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image, labels = draw_street(rng, size, target=target)
        cv2.imwrite(str(folder / "images" / f"{index:04d}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        cv2.imwrite(str(folder / "labels" / f"{index:04d}.png"), labels)
    return folder


def _layout(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    labels = np.full(size, CLASSES["sky"], np.uint8)
    horizon = int(height * rng.uniform(0.45, 0.6))
    x = 0
    while x < width:
        step = int(rng.integers(width // 8, width // 3))
        top = int(horizon * rng.uniform(0.2, 0.8))
        labels[top:horizon, x : x + step] = CLASSES["building" if rng.random() < 0.6 else "vegetation"]
        x += step
    labels[horizon:] = CLASSES["road"]
    for _ in range(int(rng.integers(1, 3))):
        _box(labels, rng, horizon, CLASSES["car"], height // 5, width // 4)
    for _ in range(int(rng.integers(1, 4))):
        _box(labels, rng, horizon, CLASSES["person"], height // 4, width // 14)
    for _ in range(int(rng.integers(1, 4))):
        _box(labels, rng, horizon, CLASSES["pole"], height // 2, max(2, width // 42))
    return labels


def _box(labels: np.ndarray, rng: np.random.Generator, horizon: int, label: int, high: int, wide: int) -> None:
    """A box that stands on the road near the horizon."""
    bottom = horizon + int(rng.integers(2, max(3, (labels.shape[0] - horizon) // 2)))
    left = int(rng.integers(0, labels.shape[1] - wide))
    labels[max(0, bottom - high) : bottom, left : left + wide] = label


def _other_camera(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turned hues, less light, warmer white, more noise."""
    strength = rng.uniform(0.75, 1.0)
    mixing = np.array([[0.62, 0.38, 0.0], [0.10, 0.62, 0.28], [0.35, 0.05, 0.60]], np.float32)
    turned = image @ ((1 - strength) * np.eye(3, dtype=np.float32) + strength * mixing).T
    dark = 255 * (np.clip(turned, 0, 255) / 255) ** rng.uniform(1.3, 1.7) * rng.uniform(0.6, 0.8)
    return dark * np.array([1.15, 1.0, 0.8]) + rng.normal(0, 7, image.shape)
