"""The geometry of training samples: keep-ratio resize, random scale, random crop, flip; then normalise and pad.

The order is the papers': load, resize, crop, flip, appearance (`appearance.py`), normalise, pad with zeros AFTER
normalisation and label 255. Images are uint8 RGB until they are normalised. All randomness comes from a generator that
the caller passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hrda_core.data.augmentation.appearance import AppearanceConfig, augment_appearance, photometric_distortion
from hrda_core.data.frames import UnlabelledFrames
from hrda_core.data.image_files import BoolArray, UInt8Array
from hrda_core.errors import DataError, RecipeError
from hrda_core.labels import IGNORE_LABEL
from hrda_core.resizing import INTERPOLATIONS, Interpolation, keep_ratio_size, resize_image, resize_map, shrunk

__all__ = [
    "AppearanceConfig",
    "CropConfig",
    "MarginConfig",
    "augment_appearance",
    "check_target_size",
    "normalise",
    "pad_to_crop",
    "photometric_distortion",
    "random_crop",
    "target_crop",
    "target_misfit",
]

Map = TypeVar("Map", bound=np.generic)


@dataclass(frozen=True)
class CropConfig:
    """Geometry of a training sample.

    Attributes:
        height, width: size of the crop, pixels, multiples of 32.
        resize: first an image is resized, its ratio kept, to fit this width and height (longer and shorter side, in
            either orientation); None = native size. The papers' values for HRDA are GTA5 2560 x 1440, SYNTHIA 2560 x
            1520, Cityscapes 2048 x 1024, ACDC and Dark Zurich 1920 x 1080; for DAFormer half of each.
        long_side: larger images are shrunk to this longer side, pixels, as a bundle's are; 0 = never.
        scale_min, scale_max: then it is resized by a random factor in this range; 1 in the papers.
        interpolation: interpolation of images here and in the validation: `bilinear`, as in the papers, or `area`, as
            the node shrinks camera images (`hrda_core.resizing`).
        max_class_share: a crop with one class above this share of its labelled pixels is drawn again, up to ten
            times (0.75 in the papers for labelled data; target crops have no such rule).
        flip: probability of a horizontal flip.
    """

    height: int = 320
    width: int = 448
    resize: tuple[int, int] | None = None
    long_side: int = 0
    scale_min: float = 1.0
    scale_max: float = 1.0
    interpolation: Interpolation = "bilinear"
    max_class_share: float = 0.75
    flip: float = 0.5

    def __post_init__(self) -> None:
        if self.height < 32 or self.width < 32 or self.height % 32 or self.width % 32:
            raise RecipeError(f"a training crop must be multiples of 32 pixels, not {self.height} x {self.width}")
        if not 0 < self.scale_min <= self.scale_max:
            raise RecipeError(f"crop scales must be 0 < scale_min <= scale_max: {self.scale_min}, {self.scale_max}")
        if self.resize is not None and (len(self.resize) != 2 or min(self.resize) < 1):
            raise RecipeError(f"crop resize is a largest width and height in pixels, or null, not {self.resize}")
        if self.long_side < 0:
            raise RecipeError(f"crop long_side is a number of pixels, or 0 to shrink nothing, not {self.long_side}")
        if self.interpolation not in INTERPOLATIONS:
            raise RecipeError(f"crop interpolation is {' or '.join(INTERPOLATIONS)}, not '{self.interpolation}'")
        if not 0 < self.max_class_share <= 1 or not 0 <= self.flip <= 1:
            raise RecipeError(f"max_class_share and flip lie in 0..1: {self.max_class_share}, {self.flip}")

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of an image of `height` x `width` pixels before the random scale."""
        return shrunk(*keep_ratio_size(height, width, self.resize), self.long_side)


@dataclass(frozen=True)
class MarginConfig:
    """Borders of a target image whose pseudo-labels are not trusted: rectification artefacts and the own car.

    The papers' values are 30, 240, 30, 30 for HRDA on Cityscapes (2048 x 1024), none for ACDC and Dark Zurich, and for
    DAFormer 15, 120, 0, 0 of each crop.

    Attributes:
        top, bottom, left, right: pixels of the image after `CropConfig.resize` and `long_side`.
        of_crop: count pixels of the training crop instead, wherever it lies in the image.
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    of_crop: bool = False

    def __post_init__(self) -> None:
        if min(self.top, self.bottom, self.left, self.right) < 0:
            raise RecipeError(f"margins are 0 or more pixels: {self}")

    def trust(self, height: int, width: int) -> BoolArray:
        """Return a mask, bool (height, width), that is False in the margins."""
        trust = np.zeros((height, width), np.bool_)
        trust[self.top : max(height - self.bottom, 0), self.left : max(width - self.right, 0)] = True
        return trust


def random_crop(
    image: UInt8Array, labels: UInt8Array, config: CropConfig, rng: np.random.RandomState
) -> tuple[UInt8Array, UInt8Array]:
    """Draw a labelled crop: resize, random scale, a box that shows several classes, flip.

    Args:
        image: uint8 (H, W, 3).
        labels: uint8 (H, W).

    Returns:
        image and labels of at most (config.height, config.width), less where the image is smaller. `pad_to_crop` fills
        them up after normalisation.
    """
    return _crop(image, labels, config.size(*image.shape[:2]), config, rng, check_classes=True)


def target_crop(
    image: UInt8Array, margins: MarginConfig, config: CropConfig, rng: np.random.RandomState
) -> tuple[UInt8Array, BoolArray]:
    """Draw an unlabelled crop and the mask of its trusted pixels: resize, random scale, any box, flip.

    Args:
        image: uint8 (H, W, 3).
        margins: False in the mask; they move with the image.

    Returns:
        image uint8 and trust bool (H, W) of at most (config.height, config.width), as `random_crop`. Pad the mask with
        False.
    """
    size = config.size(*image.shape[:2])
    trust = (np.ones(size, np.bool_) if margins.of_crop else margins.trust(*size)).astype(np.uint8)
    image, trust = _crop(image, trust, size, config, rng, check_classes=False)
    return image, margins.trust(*trust.shape) if margins.of_crop else trust.astype(np.bool_)


def _crop(
    image: UInt8Array,
    labels: UInt8Array,
    size: tuple[int, int],
    config: CropConfig,
    rng: np.random.RandomState,
    *,
    check_classes: bool,
) -> tuple[UInt8Array, UInt8Array]:
    """`labels` is any map that moves with the image. A fixed scale takes no draw."""
    if config.scale_min < config.scale_max:
        size = _scaled(*size, rng.uniform(config.scale_min, config.scale_max))
    else:
        size = _scaled(*size, config.scale_min)
    image, labels = resize_image(image, *size, config.interpolation), resize_map(labels, *size)
    box = _draw_box(labels, config, rng, check_classes)
    image, labels = image[box], labels[box]
    if rng.rand() < config.flip:
        image, labels = image[:, ::-1], labels[:, ::-1]
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def _draw_box(
    labels: UInt8Array, config: CropConfig, rng: np.random.RandomState, check_classes: bool
) -> tuple[slice, slice]:
    for _ in range(11):  # one draw and up to ten more; the last is taken unchecked
        y = rng.randint(0, max(labels.shape[0] - config.height, 0) + 1)
        x = rng.randint(0, max(labels.shape[1] - config.width, 0) + 1)
        box = (slice(y, y + config.height), slice(x, x + config.width))
        if not check_classes:
            break
        counts = np.bincount(labels[box].reshape(-1), minlength=256)[:IGNORE_LABEL]
        present = counts[counts > 0]
        if len(present) > 1 and present.max() / present.sum() < config.max_class_share:
            break
    return box


def normalise(
    image: UInt8Array, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> npt.NDArray[np.float32]:
    """Normalise each channel to (pixel - mean) / std: uint8 (H, W, 3) -> float32 (3, H, W)."""
    scaled = (image.astype(np.float32) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def pad_to_crop(
    image: npt.NDArray[np.float32], labels: npt.NDArray[Map], config: CropConfig, fill: int | bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[Map]]:
    """Pad a normalised crop at its bottom and right: the image with zeros, the map with `fill`.

    Args:
        image: float32 (3, h, w) with h <= config.height and w <= config.width.
        labels: label map (h, w) and `IGNORE_LABEL`, or trust mask and False.

    Returns:
        float32 (3, config.height, config.width) and (config.height, config.width).
    """
    below, right = config.height - labels.shape[0], config.width - labels.shape[1]
    if not below and not right:
        return image, labels
    padded = np.pad(image, ((0, 0), (0, below), (0, right)))
    return padded, np.pad(labels, ((0, below), (0, right)), constant_values=fill)


def check_target_size(frames: UnlabelledFrames, config: CropConfig, margins: MarginConfig | None = None) -> None:
    """Refuse target images that are smaller than the crop after resizing, or that the margins cover.

    Source images may be smaller: their padding is labelled as ignored. A target's padding would enter ClassMix.

    Raises:
        DataError: there is such an image; the first is named, with its size and the smallest one that fits.
    """
    found = [sentence for size in frames.sizes() if (sentence := target_misfit(*size, config, margins))]
    if found:
        others = f" (so are {len(found) - 1} others)" if len(found) > 1 else ""
        raise DataError(f"{found[0]}{others}; leave such images of a folder out with exclude or on_bad: skip")


def target_misfit(name: str, height: int, width: int, config: CropConfig, margins: MarginConfig | None = None) -> str:
    """Return a sentence on what is wrong with the size of a target image, or nothing."""
    margins = margins or MarginConfig()
    resized = config.size(height, width)
    rows, columns = _scaled(*resized, config.scale_min)
    if rows < config.height or columns < config.width:
        return (
            f"target image '{name}' is {width}x{height} pixels, {columns}x{rows} after resizing (resize "
            f"{config.resize}, long_side {config.long_side}, smallest scale {config.scale_min:g}), smaller than "
            f"the crop of {config.width}x{config.height}; lower crop.height and crop.width, or raise the target's "
            f"resize or long_side"
        )
    if not margins.trust(*((config.height, config.width) if margins.of_crop else resized)).any():
        return (
            f"the margins {margins} cover all of target image '{name}' ({resized[1]}x{resized[0]} pixels after "
            f"resizing); lower them"
        )
    return ""


def _scaled(height: int, width: int, factor: float) -> tuple[int, int]:
    return int(height * factor + 0.5), int(width * factor + 0.5)
