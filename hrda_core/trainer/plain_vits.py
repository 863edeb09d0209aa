"""What the training of a plain ViT asks for: crops of whole patches."""

from __future__ import annotations

import math
from fractions import Fraction

from hrda_core.data.augmentation.transforms import CropConfig
from hrda_core.errors import RecipeError
from hrda_core.models import HRDA, Segmenter
from hrda_core.models.plain_vit import PlainViT
from hrda_core.models.timm_encoder import STRIDES

__all__ = ["check_patches"]


def check_patches(network: HRDA | Segmenter, crop: CropConfig) -> None:
    """Refuse crops that a plain ViT would have to pad: a share of its tokens would learn from black.

    Raises:
        RecipeError: the crop, or HRDA's context of it, is no multiple of two patches.
    """
    scale = network.context_scale if isinstance(network, HRDA) else 1.0
    encoder = network.backbone
    if isinstance(encoder, PlainViT) and any(side * scale % STRIDES[-1] for side in (crop.height, crop.width)):
        step = Fraction(STRIDES[-1]) / Fraction(scale).limit_denominator(64)
        raise RecipeError(
            f"crop of {crop.width} x {crop.height} pixels cuts the patches of '{encoder.name}': give multiples of "
            f"{math.ceil(step)} pixels as crop.width and crop.height"
        )
