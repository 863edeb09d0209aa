"""The attention decoders of the papers' benchmark: DANet and ISANet, after a dilated encoder.

- DANet (Fu et al., CVPR 2019, arXiv 1809.02983): attention between positions and attention between channels, summed.
- ISANet (Huang et al. 2019, arXiv 1907.12273): interlaced sparse self-attention, see `isa_layer.py`.

On a transformer the deepest map is upsampled first (`neck.py`). Only ISANet's parameter names are those of a reference.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.models.conv_modules import ConvNormAct, classifier
from hrda_core.models.isa_layer import SelfAttentionBlock, interlaced_attention
from hrda_core.models.neck import deepest_map

__all__ = ["DAHead", "ISAHead"]


class PositionAttention(nn.Module):
    """Adds gamma * attention over positions to the map (DANet, section 3.2): (B, C, H, W) -> the same.

    The dot products are not scaled.
    """

    def __init__(self, channels: int, key_channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, key_channels, 1)
        self.key = nn.Conv2d(channels, key_channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (conv(x).flatten(2).transpose(1, 2) for conv in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return x + self.gamma * attended.transpose(1, 2).reshape(x.shape)


class ChannelAttention(nn.Module):
    """Adds gamma * attention over channels to the map (DANet, section 3.3): (B, C, H, W) -> the same.

    The softmax acts on (row maximum - energy), so that channels attend to unlike channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)  # (B, C, H * W)
        energy = flat @ flat.transpose(1, 2)  # (B, C, C)
        attention = (energy.amax(dim=-1, keepdim=True) - energy).softmax(dim=-1)
        return x + self.gamma * (attention @ flat).view(x.shape)


class DAHead(nn.Module):
    """DANet: a position and a channel attention branch of equal width are summed and classified.

    The paper's two auxiliary classifiers, one for each branch, serve its loss only and are left out.

    Args:
        in_channels: channels of the maps, finest first; only the last map is read.
        num_classes: channels of the output.
        strides: strides of the maps.
        decoder_channels: width (512 in the papers' study).
        pam_channels: key and query width of the position attention; default: an eighth of the width (64).
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
        pam_channels: int | None = None,
        upsample: int = 1,
        norm: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.stride = strides[-1] // upsample
        self.strides, self.upsample = tuple(strides), upsample
        deepest, width = in_channels[-1], decoder_channels
        self.position = nn.Sequential(
            ConvNormAct(deepest, width, 3, norm=norm),
            PositionAttention(width, pam_channels or max(width // 8, 1)),
            ConvNormAct(width, width, 3, norm=norm),
        )
        self.channel = nn.Sequential(
            ConvNormAct(deepest, width, 3, norm=norm), ChannelAttention(), ConvNormAct(width, width, 3, norm=norm)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = classifier(width, num_classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Turn encoder maps (B, Ci, Hi, Wi) into logits (B, num_classes, H4 * upsample, W4 * upsample)."""
        x = deepest_map(features, self.strides, self.upsample)
        logits: Tensor = self.conv_seg(self.dropout(self.position(x) + self.channel(x)))
        return logits


class ISAHead(nn.Module):
    """ISANet: a 3x3 convolution, global then local relation, and a 1x1 convolution on input and result concatenated.

    Args:
        in_channels: channels of the maps, finest first; only the last map is read.
        num_classes: channels of the output.
        strides: strides of the maps.
        decoder_channels: width (512 in the papers' study).
        key_channels: key and query width of both relations; default: half the width (256).
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
        key_channels: int | None = None,
        upsample: int = 1,
        norm: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.stride = strides[-1] // upsample
        self.strides, self.upsample = tuple(strides), upsample
        width, keys = decoder_channels, key_channels or max(decoder_channels // 2, 1)
        self.in_conv = ConvNormAct(in_channels[-1], width, 3, norm=norm)
        self.global_relation = SelfAttentionBlock(width, keys, project_convs=2, norm=norm)
        self.local_relation = SelfAttentionBlock(width, keys, project_convs=2, norm=norm)
        self.out_conv = ConvNormAct(2 * width, width, 1, norm=norm)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = classifier(width, num_classes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Turn encoder maps (B, Ci, Hi, Wi) into logits (B, num_classes, H4 * upsample, W4 * upsample)."""
        residual = self.in_conv(deepest_map(features, self.strides, self.upsample))
        x = interlaced_attention(residual, self.global_relation, self.local_relation)
        logits: Tensor = self.conv_seg(self.dropout(self.out_conv(torch.cat([x, residual], dim=1))))
        return logits
