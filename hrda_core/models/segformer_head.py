"""The SegFormer decoder (Xie et al., NeurIPS 2021, arXiv 2105.15203, section 3.2), which consists of MLPs only.

It differs from DAFormer's fusion `conv1` in width (768) and names only. Levels are concatenated finest first, as in the
DAFormer code; the original SegFormer code has them deepest first, so its `linear_fuse` weights need reordering.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hrda_core.models.conv_modules import ConvNormAct, classifier, resize
from hrda_core.models.daformer_head import LinearEmbed

__all__ = ["SegFormerHead"]

_UNUSED_CHANNELS = 128


class SegFormerHead(nn.Module):
    """Embeds each level to `decoder_channels`, fuses with one 1x1 conv+BN+ReLU, and classifies.

    The reference carries a classifier that its forward never calls; `conv_seg` (width 128) keeps its place in the
    state dict, so that checkpoints load strictly. It gets no gradient and no optimiser sees it.

    Args:
        in_channels: channels of the maps, finest first.
        num_classes: channels of the output.
        strides: strides of the maps.
        decoder_channels: width of each embedded level and after fusion (768 in the paper for B2 to B5).
        norm: BatchNorm in the fusion.
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
        decoder_channels: int = 768,
        norm: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.stride = strides[0]
        self.linear_c = nn.ModuleList(LinearEmbed(channels, decoder_channels) for channels in in_channels)
        self.linear_fuse = ConvNormAct(decoder_channels * len(in_channels), decoder_channels, 1, norm=norm)
        self.dropout = nn.Dropout2d(dropout)
        self.linear_pred = nn.Conv2d(decoder_channels, num_classes, 1)
        self.conv_seg = classifier(_UNUSED_CHANNELS, num_classes).requires_grad_(False)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Turn encoder maps (B, Ci, Hi, Wi), finest first, into logits (B, num_classes, H1, W1)."""
        size = (features[0].shape[2], features[0].shape[3])
        levels = [resize(embed(feature), size) for embed, feature in zip(self.linear_c, features, strict=True)]
        logits: Tensor = self.linear_pred(self.dropout(self.linear_fuse(torch.cat(levels, dim=1))))
        return logits
