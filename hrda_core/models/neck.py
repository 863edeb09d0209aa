"""Fits an encoder with a coarse deepest map to decoders made for dilated CNNs (DAFormer paper, encoder study).

DeepLab, DANet and ISANet expect a deepest map at stride 8, as a dilated ResNet gives it. A transformer's deepest map is
at stride 32, so it is upsampled by 4 in front of the decoder. This has no weights, so no checkpoint shows it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

__all__ = ["deepest_map"]


def deepest_map(features: Sequence[Tensor], strides: Sequence[int], upsample: int = 1) -> Tensor:
    """Upsample the last of the maps bilinearly: (B, C, h, w) -> (B, C, h * upsample, w * upsample).

    Where the image is no multiple of the deepest stride, the last cells reach beyond it; what exceeds the grid of the
    new stride, ceil(side / stride), is cut off.

    Args:
        features: maps, finest first.
        strides: strides of the maps.
        upsample: factor.
    """
    last = features[-1]
    if upsample == 1:
        return last
    per_cell = strides[-1] // upsample // strides[0]
    height, width = (-(-side // per_cell) for side in features[0].shape[2:])
    up = F.interpolate(last, scale_factor=upsample, mode="bilinear", align_corners=False)
    return up[:, :, :height, :width]
