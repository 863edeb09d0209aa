"""The DAFormer decoder: context-aware multi-level feature fusion (paper section 3.2, "DAFormer Network").

Four feature maps at strides 4, 8, 16, 32 are embedded to equal width, resized to the stride-4 grid, concatenated, and
fused by parallel depth-wise separable convolutions of dilation 1, 6, 12, 18 (an ASPP without image pooling). The other
fusions are the variants of the paper's decoder study.

Module names follow the released checkpoints: `embed_layers.N.proj`, `fuse_layer.aspp_modules.N`,
`fuse_layer.bottleneck`, `conv_seg`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.errors import RecipeError
from hrda_core.models.conv_modules import ConvNormAct, SeparableConvNormAct, classifier, resize
from hrda_core.models.isa_layer import ISALayer

__all__ = ["ASPP", "ASPP_DILATIONS", "FUSIONS", "DAFormerHead", "LinearEmbed"]

ASPP_DILATIONS = (1, 6, 12, 18)
FUSIONS = ("sepaspp", "aspp", "conv1", "isa", "sepaspp_bottleneck")


class LinearEmbed(nn.Module):
    """A linear map over channels at every pixel: (B, C, H, W) -> (B, E, H, W).

    Its weights are an `nn.Linear`'s, (E, C).
    """

    def __init__(self, in_channels: int, embed_channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, embed_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, E, H, W)."""
        # As a 1x1 convolution the map stays channel-first: no transposed copy, which the dilated depth-wise
        # convolutions that follow would pay for several times over on a CPU.
        return F.conv2d(x, self.proj.weight[:, :, None, None], self.proj.bias)


class ASPP(nn.Module):
    """Parallel dilated branches are concatenated and pass a 3x3 bottleneck: (B, Cin, H, W) -> (B, Cout, H, W)."""

    def __init__(self, in_channels: int, channels: int, *, separable: bool, norm: bool) -> None:
        super().__init__()
        self.aspp_modules = nn.ModuleList(
            _aspp_branch(in_channels, channels, dilation, separable, norm) for dilation in ASPP_DILATIONS
        )
        self.bottleneck = ConvNormAct(len(ASPP_DILATIONS) * channels, channels, 3, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bottleneck(torch.cat([branch(x) for branch in self.aspp_modules], dim=1))
        return out


def _aspp_branch(in_channels: int, channels: int, dilation: int, separable: bool, norm: bool) -> nn.Module:
    if dilation == 1:
        return ConvNormAct(in_channels, channels, 1, norm=norm)
    if separable:
        return SeparableConvNormAct(in_channels, channels, dilation=dilation, norm=norm)
    return ConvNormAct(in_channels, channels, 3, dilation=dilation, norm=norm)


def _fusion(fusion: str, in_channels: int, channels: int, norm: bool) -> nn.Module:
    if fusion in ("conv1", "sepaspp_bottleneck"):
        return ConvNormAct(in_channels, channels, 1, norm=norm)
    if fusion == "isa":
        return ISALayer(in_channels, channels, norm=norm)
    return ASPP(in_channels, channels, separable=fusion == "sepaspp", norm=norm)


class DAFormerHead(nn.Module):
    """Fuses four encoder maps into class logits at the resolution of the finest map.

    Args:
        in_channels: channels of the maps, finest first.
        num_classes: channels of the output.
        strides: strides of the maps.
        decoder_channels: width after fusion (256 in the paper).
        embed_channels: width of each embedded level (256 in the paper).
        fusion: `sepaspp` (DAFormer), `aspp` (full 3x3 branches), `conv1` (one 1x1 convolution: SegFormer's fusion),
            `isa` (interlaced sparse self-attention, `isa_layer.py`), `sepaspp_bottleneck` (context at the deepest
            level only, which is upsampled to the finest grid and passes a 1x1 convolution and the separable ASPP; then
            `conv1`).
        norm: BatchNorm in the fusion.
        dropout: probability that a whole channel is zeroed before the classifier, in training.

    Attributes:
        stride: image pixels per logit.

    Raises:
        RecipeError: the fusion is unknown.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        strides: Sequence[int] = (4, 8, 16, 32),
        decoder_channels: int = 256,
        embed_channels: int = 256,
        fusion: str = "sepaspp",
        norm: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise RecipeError(f"decoder fusion '{fusion}' is not known; choose one of {', '.join(FUSIONS)}")
        self.stride = strides[0]
        self.resize_first = fusion == "sepaspp_bottleneck"
        embeds: list[nn.Module] = [LinearEmbed(channels, embed_channels) for channels in in_channels]
        if self.resize_first:
            context = ASPP(embed_channels, embed_channels, separable=True, norm=norm)
            embeds[-1] = nn.Sequential(nn.Conv2d(in_channels[-1], embed_channels, 1), context)
        self.embed_layers = nn.ModuleList(embeds)
        self.fuse_layer = _fusion(fusion, embed_channels * len(in_channels), decoder_channels, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = classifier(decoder_channels, num_classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Turn encoder maps (B, Ci, Hi, Wi), finest first, into logits (B, num_classes, H1, W1)."""
        size = (features[0].shape[2], features[0].shape[3])
        if self.resize_first:
            features = [*features[:-1], resize(features[-1], size)]
        finest, *coarser = (embed(feature) for embed, feature in zip(self.embed_layers, features, strict=True))
        levels = [finest, *(resize(level, size) for level in coarser)]
        logits: Tensor = self.conv_seg(self.dropout(self.fuse_layer(torch.cat(levels, dim=1))))
        return logits
