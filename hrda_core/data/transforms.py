"""Training transforms: scale, random crop, flip, appearance. uint8 RGB images in and out; OpenCV and numpy.

Every random decision is drawn first, from a passed generator, and applied by a function without randomness.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.errors import RecipeError
from hrda_core.labels import IGNORE_LABEL

__all__ = ["AppearanceConfig", "CropConfig", "augment_appearance", "normalise", "random_crop"]

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class CropConfig:
    """Geometry of a training sample.

    Attributes:
        height, width: size of the crop, pixels, multiples of 32.
        scale_min, scale_max: the image is resized by a random factor in this range before cropping.
        max_class_share: a crop with one class above this share of its labelled pixels is drawn again, up to ten
            times (`cat_max_ratio` of the reference, 0.75 for labelled data).
        flip: probability of a horizontal flip.
    """

    height: int = 320
    width: int = 448
    scale_min: float = 1.0
    scale_max: float = 1.0
    max_class_share: float = 0.75
    flip: float = 0.5

    def __post_init__(self) -> None:
        if self.height < 32 or self.width < 32 or self.height % 32 or self.width % 32:
            raise RecipeError(f"a training crop must be multiples of 32 pixels, not {self.height} x {self.width}")
        if not 0 < self.scale_min <= self.scale_max:
            raise RecipeError(f"crop scales must be 0 < scale_min <= scale_max: {self.scale_min}, {self.scale_max}")


@dataclass(frozen=True)
class AppearanceConfig:
    """How far a rendered image is pushed towards other cameras, weathers and lights.

    Attributes:
        photometric: brightness, contrast, saturation and hue as PhotoMetricDistortion of the reference.
        gamma: exponent drawn log-uniformly in 1/gamma..gamma; 1 = off.
        darken: factor drawn uniformly in darken..1, with probability 0.5; 1 = off.
        colour_cast: each channel times a factor in 1-c..1+c; 0 = off.
        grey: probability that all colour is removed.
        blur: Gaussian blur with sigma up to this, pixels, with probability 0.5; 0 = off.
        noise: standard deviation of additive noise up to this, 0..255 scale, with probability 0.5; 0 = off.
    """

    photometric: bool = True
    gamma: float = 1.0
    darken: float = 1.0
    colour_cast: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    noise: float = 0.0


def random_crop(
    image: UInt8Array, labels: UInt8Array, config: CropConfig, rng: np.random.RandomState
) -> tuple[UInt8Array, UInt8Array]:
    """Resize by a random factor, crop, flip. Image areas outside are 0 and their labels `IGNORE_LABEL`.

    Args:
        image: uint8 (H, W, 3).
        labels: uint8 (H, W).

    Returns:
        crop of (config.height, config.width).
    """
    factor = rng.uniform(config.scale_min, config.scale_max)
    size = (int(labels.shape[1] * factor + 0.5), int(labels.shape[0] * factor + 0.5))
    image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    rows, columns = _draw_box(labels, config, rng)
    image, labels = image[rows, columns], labels[rows, columns]
    if rng.rand() < config.flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    below, right = config.height - labels.shape[0], config.width - labels.shape[1]
    if below or right:
        image = np.pad(image, ((0, below), (0, right), (0, 0)))
        labels = np.pad(labels, ((0, below), (0, right)), constant_values=IGNORE_LABEL)
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def _draw_box(labels: UInt8Array, config: CropConfig, rng: np.random.RandomState) -> tuple[slice, slice]:
    for _ in range(11):  # one draw and up to ten more; the last is taken unchecked
        y = rng.randint(0, max(labels.shape[0] - config.height, 0) + 1)
        x = rng.randint(0, max(labels.shape[1] - config.width, 0) + 1)
        box = (slice(y, y + config.height), slice(x, x + config.width))
        counts = np.bincount(labels[box].reshape(-1), minlength=256)[:IGNORE_LABEL]
        present = counts[counts > 0]
        if len(present) > 1 and present.max() / present.sum() < config.max_class_share:
            break
    return box


def augment_appearance(image: UInt8Array, config: AppearanceConfig, rng: np.random.RandomState) -> UInt8Array:
    """Change colours, light, sharpness and noise of a uint8 (H, W, 3) RGB image; the geometry stays."""
    if config.photometric:
        image = _photometric_distortion(image, rng)
    image = _light(image, config, rng)
    if rng.rand() < config.grey:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if config.blur and rng.rand() < 0.5:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.1, config.blur)), np.uint8)
    if config.noise and rng.rand() < 0.5:
        noise = rng.standard_normal(image.shape).astype(np.float32) * rng.uniform(0, config.noise)
        image = _to_uint8(image + noise)
    return image


def _light(image: UInt8Array, config: AppearanceConfig, rng: np.random.RandomState) -> UInt8Array:
    """Gamma, darkening and colour cast as one lookup table for each channel."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32) ** np.float32(np.exp(rng.uniform(-1, 1) * np.log(config.gamma)))
    if rng.rand() < 0.5:
        ramp = ramp * rng.uniform(config.darken, 1)
    cast = 1 + rng.uniform(-config.colour_cast, config.colour_cast, size=3)
    table = _to_uint8(255 * ramp[:, None] * cast)
    return np.asarray(cv2.LUT(image, table[None]), np.uint8)


def _photometric_distortion(image: UInt8Array, rng: np.random.RandomState) -> UInt8Array:
    """Brightness +-32, contrast 0.5..1.5, saturation 0.5..1.5, hue +-18 of 180, each with probability 1/2."""
    contrast_first = rng.randint(2)
    if rng.randint(2):
        image = _to_uint8(image + np.float32(rng.uniform(-32, 32)))
    if contrast_first and rng.randint(2):
        image = _to_uint8(image * np.float32(rng.uniform(0.5, 1.5)))
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    if rng.randint(2):
        hsv[..., 1] = _to_uint8(hsv[..., 1] * np.float32(rng.uniform(0.5, 1.5)))
    if rng.randint(2):
        hsv[..., 0] = (hsv[..., 0].astype(np.int32) + rng.randint(-18, 18)) % 180
    image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
    if not contrast_first and rng.randint(2):
        image = _to_uint8(image * np.float32(rng.uniform(0.5, 1.5)))
    return image


def normalise(
    image: UInt8Array, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> npt.NDArray[np.float32]:
    """uint8 (H, W, 3) -> float32 (3, H, W): (pixel - mean) / std by channel."""
    scaled = (image.astype(np.float32) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def _to_uint8(values: npt.NDArray[np.floating]) -> UInt8Array:
    return np.asarray(np.clip(values, 0, 255), np.uint8)
