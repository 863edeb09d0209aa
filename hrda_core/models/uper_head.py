"""UPerNet (Xiao et al., ECCV 2018, arXiv 1807.10221): pyramid pooling on the deepest map, then a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hrda_core.models.conv_modules import ConvNormAct, classifier, resize

__all__ = ["POOL_SIZES", "UPerHead"]

POOL_SIZES = (1, 2, 3, 6)


class UPerHead(nn.Module):
    """Pools the deepest map to 1, 2, 3 and 6 cells a side, adds it down the pyramid, and fuses all levels.

    The logits have the resolution of the finest map. In training with BatchNorm the 1-cell branch holds one value per
    image and channel, so it needs batches of 2 or more.

    Args:
        in_channels: channels of the maps, finest first.
        num_classes: channels of the output.
        strides: strides of the maps.
        decoder_channels: width (512 in the papers' study, also 256).
        norm: BatchNorm in the decoder.
        dropout: probability that a whole channel is zeroed before the classifier, in training.

    Attributes:
        stride: image pixels per logit.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        strides: Sequence[int] = (4, 8, 16, 32),
        decoder_channels: int = 512,
        norm: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.stride = strides[0]
        *finer, deepest = in_channels
        width = decoder_channels
        self.psp_modules = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), ConvNormAct(deepest, width, 1, norm=norm)) for size in POOL_SIZES
        )
        self.bottleneck = ConvNormAct(deepest + len(POOL_SIZES) * width, width, 3, norm=norm)
        self.lateral_convs = nn.ModuleList(ConvNormAct(channels, width, 1, norm=norm) for channels in finer)
        self.fpn_convs = nn.ModuleList(ConvNormAct(width, width, 3, norm=norm) for _ in finer)
        self.fpn_bottleneck = ConvNormAct(len(in_channels) * width, width, 3, norm=norm)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = classifier(width, num_classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Turn encoder maps (B, Ci, Hi, Wi), finest first, into logits (B, num_classes, H1, W1)."""
        levels = [lateral(x) for lateral, x in zip(self.lateral_convs, features[:-1], strict=True)]
        levels.append(self._pooled(features[-1]))
        for level in range(len(levels) - 1, 0, -1):
            finer = levels[level - 1]
            levels[level - 1] = finer + resize(levels[level], (finer.shape[2], finer.shape[3]))
        outputs = [conv(x) for conv, x in zip(self.fpn_convs, levels[:-1], strict=True)]
        size = (outputs[0].shape[2], outputs[0].shape[3])
        fused = self.fpn_bottleneck(torch.cat([resize(x, size) for x in [*outputs, levels[-1]]], dim=1))
        logits: Tensor = self.conv_seg(self.dropout(fused))
        return logits

    def _pooled(self, x: Tensor) -> Tensor:
        """Pyramid pooling: (B, C4, H4, W4) -> (B, width, H4, W4)."""
        size = (x.shape[2], x.shape[3])
        out: Tensor = self.bottleneck(torch.cat([x, *(resize(pool(x), size) for pool in self.psp_modules)], dim=1))
        return out
