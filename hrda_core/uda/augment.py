"""Strong augmentation of mixed images: colour jitter and Gaussian blur (paper section 3.1; spec section 8).

Random values are drawn first (`draw_jitter`, `draw_blur`) and then applied by functions without randomness. Colours are
changed as the reference's library does, which differs from torchvision: brightness is added, and contrast multiplies
without subtracting a mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hrda_core.uda.precision import at_least_single

__all__ = ["JitterDraw", "blur_kernel_size", "color_jitter", "draw_blur", "draw_jitter", "gaussian_blur"]

OPERATIONS = ("brightness", "contrast", "saturation", "hue")

_SIGMA = (0.15, 1.15)

_NEGLIGIBLE = 6.5
"""Beyond this many sigmas a Gaussian weight is below 1e-9 of the largest and vanishes in single precision."""


@dataclass(frozen=True)
class JitterDraw:
    """The random values of one image's colour jitter.

    Attributes:
        order: order of the operations, as indices into `OPERATIONS`.
        brightness: added after subtracting 1.
        contrast, saturation: factors.
        hue: added, in turns of the colour circle.
    """

    order: tuple[int, ...]
    brightness: float
    contrast: float
    saturation: float
    hue: float


def draw_jitter(rng: np.random.RandomState, strength: float = 0.2) -> JitterDraw:
    """Draw order and values for one image: factors in 1-strength..1+strength, hue in -strength..strength."""
    order = tuple(int(operation) for operation in rng.permutation(len(OPERATIONS)))
    brightness, contrast, saturation = (float(factor) for factor in rng.uniform(1 - strength, 1 + strength, size=3))
    return JitterDraw(order, brightness, contrast, saturation, float(rng.uniform(-strength, strength)))


def draw_blur(rng: np.random.RandomState) -> float:
    """Draw the sigma of one image's blur, in pixels."""
    return float(rng.uniform(*_SIGMA))


def color_jitter(images: Tensor, draws: Sequence[JitterDraw], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Jitter normalised images (B, 3, H, W) with one draw for each image, and return normalised images.

    Args:
        mean, std: normalisation of the images, RGB on the 0..255 scale.
    """
    scale, shift = (images.new_tensor(value).view(3, 1, 1) / 255 for value in (std, mean))
    jittered = torch.stack([_jitter(image * scale + shift, draw) for image, draw in zip(images, draws, strict=True)])
    return (jittered - shift) / scale


def _jitter(image: Tensor, draw: JitterDraw) -> Tensor:
    """One RGB image (3, H, W) in 0..1. Only brightness and contrast clamp it."""
    for operation in draw.order:
        name = OPERATIONS[operation]
        if name == "brightness":
            image = (image + (draw.brightness - 1)).clamp(0, 1)
        elif name == "contrast":
            image = (image * draw.contrast).clamp(0, 1)
        elif name == "saturation":
            image = _change_saturation(image, draw.saturation)
        else:
            image = _turn_hue(image, draw.hue)
    return image


def _change_saturation(image: Tensor, factor: float) -> Tensor:
    """Scale the S of HSV, clamped to 1. Hue and value stay, so no way through HSV is needed."""
    value = image.amax(0)
    span = value - image.amin(0)
    # S = span / value grows by the factor, at most to 1: the distances to the value grow alike.
    gain = torch.clamp(value / span.clamp_min(1e-12), max=factor)
    return value - (value - image) * gain


def _turn_hue(image: Tensor, turns: float) -> Tensor:
    """Turn the H of HSV, by way of position on the hexagon of hues."""
    value, brightest = image.max(0)
    span = value - image.amin(0)
    red, green, blue = image.unbind(0)
    sector = torch.stack([green - blue, blue - red, red - green]).gather(0, brightest[None])[0]
    hue = sector / span.clamp_min(1e-12) + 2 * brightest + 6 * turns  # in sixths of the circle
    # A channel is at the value within one sixth of its hue, at the minimum beyond two, and linear between.
    offsets = hue.new_tensor([5.0, 3.0, 1.0]).view(3, 1, 1)
    position = (hue + offsets) % 6
    fall = torch.minimum(position, 4 - position).clamp(0, 1)
    return value - span * fall


def blur_kernel_size(side: int) -> int:
    """Return the odd kernel size, near a tenth of the side, for an image side of `side` pixels."""
    tenth = math.ceil(0.1 * side)
    return math.floor(tenth - 0.5 + tenth % 2)


def gaussian_blur(images: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Blur images (B, 3, H, W) with one sigma for each image and reflected borders."""
    return torch.stack([_blur(image, sigma) for image, sigma in zip(images, sigmas, strict=True)])


def _blur(image: Tensor, sigma: float) -> Tensor:
    for axis in (1, 2):
        radius = min(blur_kernel_size(image.shape[axis]) // 2, math.ceil(_NEGLIGIBLE * sigma))
        distance = at_least_single(torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype))
        kernel = torch.exp(-(distance**2) / (2 * sigma**2))
        kernel = (kernel / kernel.sum()).to(image.dtype)
        pad, shape = ((0, 0, radius, radius), (1, 1, -1, 1)) if axis == 1 else ((radius, radius, 0, 0), (1, 1, 1, -1))
        padded = F.pad(image[:, None], pad, mode="reflect")
        image = F.conv2d(padded, kernel.view(shape))[:, 0]
    return image
