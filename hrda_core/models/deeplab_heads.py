"""DeepLabV2 (Chen et al., TPAMI 2018, arXiv 1606.00915) and DeepLabV3+ (Chen et al., ECCV 2018, arXiv 1802.02611).

These are the CNN decoders of the papers' benchmark, after a dilated ResNet (`timm_encoder.py`, output stride 8). On a
transformer the deepest map is upsampled first (`neck.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hrda_core.models.conv_modules import ConvNormAct, SeparableConvNormAct, classifier, resize
from hrda_core.models.neck import deepest_map

__all__ = ["DLV2_DILATIONS", "DLV2_REDUCED_DILATIONS", "DLV3PLUS_DILATIONS", "DeepLabV2Head", "DeepLabV3PlusHead"]

DLV2_DILATIONS = (6, 12, 18, 24)
DLV2_REDUCED_DILATIONS = (6, 12)
"""What UDA papers call DeepLabV2: a widely used older code returned after the second branch."""
DLV3PLUS_DILATIONS = (1, 12, 24, 36)


class _PlainConv(nn.Module):
    """One dilated 3x3 convolution with bias, under the name `conv`."""

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        nn.init.normal_(self.conv.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class DeepLabV2Head(nn.Module):
    """Sums parallel dilated convolutions from the deepest map straight to classes; no norm, activation or dropout.

    Args:
        in_channels: channels of the maps, finest first; only the last map is read.
        num_classes: channels of the output.
        strides: strides of the maps.
        dilations: dilation of each branch.
        upsample: factor for the deepest map, see `neck.py`.

    Attributes:
        stride: image pixels per logit.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        strides: Sequence[int] = (4, 8, 16, 32),
        dilations: Sequence[int] = DLV2_REDUCED_DILATIONS,
        upsample: int = 1,
    ) -> None:
        super().__init__()
        self.stride = strides[-1] // upsample
        self.strides, self.upsample = tuple(strides), upsample
        self.aspp_modules = nn.ModuleList(_PlainConv(in_channels[-1], num_classes, dilation) for dilation in dilations)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Turn encoder maps (B, Ci, Hi, Wi) into logits (B, num_classes, H4 * upsample, W4 * upsample)."""
        x = deepest_map(features, self.strides, self.upsample)
        first, *others = self.aspp_modules
        logits: Tensor = first(x)
        for branch in others:
            logits = logits + branch(x)
        return logits


class DeepLabV3PlusHead(nn.Module):
    """ASPP with image pooling on the deepest map, refined with a skip connection from the finest.

    In training with BatchNorm the pooled branch holds one value per image and channel, so it needs batches of 2 or
    more.

    Args:
        in_channels: channels of the maps, finest first; the first and last are read.
        num_classes: channels of the output.
        strides: strides of the maps.
        decoder_channels: width (512 in the papers' study).
        skip_channels: width of the reduced finest map.
        dilations: dilation of each branch; 1 stands for a 1x1 convolution, the others are separable.
        upsample: factor for the deepest map, see `neck.py`.
        norm: BatchNorm in the decoder; the papers' study has none (`_nodbn`).
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
        skip_channels: int = 48,
        dilations: Sequence[int] = DLV3PLUS_DILATIONS,
        upsample: int = 1,
        norm: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.stride = strides[0]
        self.strides, self.upsample = tuple(strides), upsample
        deepest, width = in_channels[-1], decoder_channels
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvNormAct(deepest, width, 1, norm=norm))
        self.aspp_modules = nn.ModuleList(
            ConvNormAct(deepest, width, 1, norm=norm)
            if dilation == 1
            else SeparableConvNormAct(deepest, width, dilation=dilation, norm=norm)
            for dilation in dilations
        )
        self.bottleneck = ConvNormAct((len(dilations) + 1) * width, width, 3, norm=norm)
        self.c1_bottleneck = ConvNormAct(in_channels[0], skip_channels, 1, norm=norm)
        self.sep_bottleneck = nn.Sequential(
            SeparableConvNormAct(width + skip_channels, width, norm=norm), SeparableConvNormAct(width, width, norm=norm)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = classifier(width, num_classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Turn encoder maps (B, Ci, Hi, Wi), finest first, into logits (B, num_classes, H1, W1)."""
        x = deepest_map(features, self.strides, self.upsample)
        pooled = resize(self.image_pool(x), (x.shape[2], x.shape[3]))
        x = self.bottleneck(torch.cat([pooled, *(branch(x) for branch in self.aspp_modules)], dim=1))
        skip = self.c1_bottleneck(features[0])
        x = self.sep_bottleneck(torch.cat([resize(x, (skip.shape[2], skip.shape[3])), skip], dim=1))
        logits: Tensor = self.conv_seg(self.dropout(x))
        return logits
