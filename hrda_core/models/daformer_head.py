"""The DAFormer decoder: context-aware multi-level feature fusion (paper section 3.2, "DAFormer Network").

Four feature maps at strides 4, 8, 16, 32 are embedded to equal width, resized to the stride-4 grid, concatenated, and
fused by parallel depth-wise separable convolutions of dilation 1, 6, 12, 18 (an ASPP without image pooling).

Module names follow the released checkpoints: `embed_layers.N.proj`, `fuse_layer.aspp_modules.N`,
`fuse_layer.bottleneck`, `conv_seg`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.errors import RecipeError
from hrda_core.models.conv_modules import ConvNormAct, SeparableConvNormAct

__all__ = ["ASPP_DILATIONS", "FUSIONS", "DAFormerHead"]

ASPP_DILATIONS = (1, 6, 12, 18)
FUSIONS = ("sepaspp", "aspp", "conv1")


class _LinearEmbed(nn.Module):
    """A linear map over channels at every pixel: (B, C, H, W) -> (B, E, H, W). Weights as `nn.Linear` (E, C)."""

    def __init__(self, in_channels: int, embed_channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, embed_channels)

    def forward(self, x: Tensor) -> Tensor:
        # As a 1x1 convolution the map stays channel-first: no transposed copy, which the dilated depth-wise
        # convolutions that follow would pay for several times over on a CPU.
        return F.conv2d(x, self.proj.weight[:, :, None, None], self.proj.bias)


class _ASPP(nn.Module):
    """Parallel dilated branches, concatenated, then a 3x3 bottleneck. (B, Cin, H, W) -> (B, Cout, H, W)."""

    def __init__(self, in_channels: int, channels: int, *, separable: bool) -> None:
        super().__init__()
        self.aspp_modules = nn.ModuleList(
            _aspp_branch(in_channels, channels, dilation, separable) for dilation in ASPP_DILATIONS
        )
        self.bottleneck = ConvNormAct(len(ASPP_DILATIONS) * channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bottleneck(torch.cat([branch(x) for branch in self.aspp_modules], dim=1))
        return out


def _aspp_branch(in_channels: int, channels: int, dilation: int, separable: bool) -> nn.Module:
    if dilation == 1:
        return ConvNormAct(in_channels, channels, 1)
    if separable:
        return SeparableConvNormAct(in_channels, channels, dilation=dilation)
    return ConvNormAct(in_channels, channels, 3, dilation=dilation)


class DAFormerHead(nn.Module):
    """Fuses four encoder maps into class logits at the resolution of the finest one.

    Args:
        in_channels: channels of the four maps, finest first.
        num_classes: channels of the output.
        decoder_channels: width after fusion (256 in the paper).
        embed_channels: width of each embedded level (256 in the paper).
        fusion: `sepaspp` (DAFormer), `aspp` (full 3x3 branches), `conv1` (one 1x1 convolution: SegFormer's fusion).
        dropout: probability that a whole channel is zeroed before the classifier, in training.

    Raises:
        RecipeError: unknown fusion.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        *,
        decoder_channels: int = 256,
        embed_channels: int = 256,
        fusion: str = "sepaspp",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if fusion not in FUSIONS:
            raise RecipeError(f"decoder fusion '{fusion}' is not known; choose one of {', '.join(FUSIONS)}")
        self.embed_layers = nn.ModuleList(_LinearEmbed(channels, embed_channels) for channels in in_channels)
        fused = embed_channels * len(in_channels)
        self.fuse_layer: nn.Module = (
            ConvNormAct(fused, decoder_channels, 1)
            if fusion == "conv1"
            else _ASPP(fused, decoder_channels, separable=fusion == "sepaspp")
        )
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(decoder_channels, num_classes, 1)
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        nn.init.zeros_(self.conv_seg.bias)  # type: ignore[arg-type]  # nn.Conv2d types bias as optional

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Encoder maps (B, Ci, Hi, Wi), finest first -> logits (B, num_classes, H1, W1)."""
        finest, *coarser = (embed(feature) for embed, feature in zip(self.embed_layers, features, strict=True))
        size = finest.shape[2:]
        resized = [F.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in coarser]
        logits: Tensor = self.conv_seg(self.dropout(self.fuse_layer(torch.cat([finest, *resized], dim=1))))
        return logits
