"""Masked image consistency (MIC, arXiv 2212.01322, section 3.2): predict hidden patches from their surroundings.

    M = [u > r],   u ~ U(0, 1) for each patch of b x b pixels            x_masked = M * x_target

The student must give the teacher's pseudo-labels on x_masked. Hidden pixels are 0 in normalised space, the mean colour.
b is 64 at full and 32 at half resolution, r is 0.7, the weight 1. HRDA masks the whole image before it splits it into
context and detail, so that both branches lack the same patches. Reference: spec section 14.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from hrda_core.errors import RecipeError

__all__ = ["MicConfig", "draw_patch_field", "patch_mask"]


@dataclass(frozen=True)
class MicConfig:
    """Options of masked image consistency in a recipe.

    Attributes:
        block: side of a patch, pixels: 64 for HRDA, 32 for networks at half resolution.
        ratio: share of patches that is hidden.
        weight: lambda of the masked loss.
        augment: jitter and blur masked images too, with a draw of their own. The paper does so for rendered sources
            and leaves masked images as they are for real ones (ACDC, Dark Zurich).
        with_source: mask the first half of the source batch with its labels, beside the second half of the target
            batch; else the whole target batch. The paper does so for real sources.
    """

    block: int = 64
    ratio: float = 0.7
    weight: float = 1.0
    augment: bool = True
    with_source: bool = False

    def __post_init__(self) -> None:
        if self.block < 1 or not 0 <= self.ratio < 1 or self.weight < 0:
            raise RecipeError(
                f"mic needs block >= 1, ratio in 0..1 (1 excluded) and weight >= 0, not {self.block}, {self.ratio} and "
                f"{self.weight}"
            )


def draw_patch_field(rng: np.random.RandomState, height: int, width: int, block: int) -> npt.NDArray[np.float32]:
    """Draw one uniform value in 0..1 for each patch.

    The result has the shape (round(height / block), round(width / block)), with at least one patch.
    """
    grid = (max(1, round(height / block)), max(1, round(width / block)))
    return rng.uniform(size=grid).astype(np.float32)


def patch_mask(uniform: Tensor, ratio: float, size: tuple[int, int]) -> Tensor:
    """Mark the pixels that stay visible.

    Args:
        uniform: float (B, h, w) in 0..1, of `draw_patch_field`.
        ratio: patches at or below it are hidden.
        size: height and width of the images, pixels; patches are stretched to it (nearest), so that they are a
            little larger or smaller than `block` where it does not divide the image.

    Returns:
        bool (B, *size), True = visible.
    """
    keep = (uniform > ratio).float()[:, None]
    return F.interpolate(keep, size=size, mode="nearest")[:, 0] > 0
