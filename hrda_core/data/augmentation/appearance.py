"""The appearance of a training image: colours, light, sharpness and noise of uint8 RGB images; the geometry stays.

The papers use photometric distortion for supervised training on labelled images only; self-training has a strong
augmentation of its own. The rest pushes a rendered image towards other cameras, weathers and lights.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from hrda_core.data.image_files import UInt8Array

__all__ = ["AppearanceConfig", "augment_appearance", "photometric_distortion"]


@dataclass(frozen=True)
class AppearanceConfig:
    """How far a rendered image is pushed towards other cameras, weathers and lights.

    Attributes:
        photometric: brightness, contrast, saturation and hue, see `photometric_distortion`.
        gamma: exponent drawn log-uniformly in 1/gamma..gamma; 1 = off.
        darken: factor drawn uniformly in darken..1, with probability 0.5; 1 = off.
        colour_cast: each channel is multiplied by a factor in 1-c..1+c; 0 = off.
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


def augment_appearance(image: UInt8Array, config: AppearanceConfig, rng: np.random.RandomState) -> UInt8Array:
    """Change colours, light, sharpness and noise of a uint8 (H, W, 3) RGB image; the geometry stays."""
    if config.photometric:
        image = photometric_distortion(image, rng)
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


def photometric_distortion(image: UInt8Array, rng: np.random.RandomState) -> UInt8Array:
    """Change brightness +-32, contrast 0.5..1.5, saturation 0.5..1.5 and hue -18..17 of 180, each with probability 1/2.

    Contrast comes before or after the two others, at random. The draws follow the order of the reference: the same
    generator state gives the same pixels. Each step rounds to uint8, and so does each conversion to HSV and back.
    """
    if rng.randint(2):
        image = _to_uint8(image + np.float32(rng.uniform(-32, 32)))
    contrast_first = rng.randint(2)
    if contrast_first and rng.randint(2):
        image = _to_uint8(image * np.float32(rng.uniform(0.5, 1.5)))
    if rng.randint(2):
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 1] = _to_uint8(hsv[..., 1] * np.float32(rng.uniform(0.5, 1.5)))
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
    if rng.randint(2):
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int32) + rng.randint(-18, 18)) % 180
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
    if not contrast_first and rng.randint(2):
        image = _to_uint8(image * np.float32(rng.uniform(0.5, 1.5)))
    return image


def _to_uint8(values: npt.NDArray[np.floating]) -> UInt8Array:
    return np.asarray(np.clip(values, 0, 255), np.uint8)
