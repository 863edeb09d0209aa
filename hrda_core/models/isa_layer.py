"""Interlaced sparse self-attention (Huang et al. 2019, arXiv 1907.12273): two sparse attentions for a dense one.

A map is cut into 8x8 cells. The *global relation* lets positions at equal places of all cells attend to each other
(long range); the *local relation* lets the 64 positions of one cell attend to each other (short range). One after the
other they connect every pair of positions at a fraction of the cost of full attention.

It is a fusion of the DAFormer decoder (DAFormer paper, table of decoders) and part of `attention_heads.ISAHead`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.models.conv_modules import ConvNormAct

__all__ = ["CELL", "ISALayer", "SelfAttentionBlock", "interlaced_attention"]

CELL = 8
"""Side of a cell, in positions."""


class SelfAttentionBlock(nn.Module):
    """Single-head attention over all positions of a map: (B, C, h, w) -> (B, C, h, w).

    Key and query are `project_convs` 1x1 conv+BN+ReLU units each, the value is a plain 1x1 convolution, and the output
    is one conv+BN+ReLU unit. The scale is key_channels ** -0.5.
    """

    def __init__(self, channels: int, key_channels: int, *, project_convs: int, norm: bool) -> None:
        super().__init__()
        self.key_project = _projection(channels, key_channels, project_convs, norm)
        self.query_project = _projection(channels, key_channels, project_convs, norm)
        self.value_project = nn.Conv2d(channels, channels, 1)
        self.output_project = ConvNormAct(channels, channels, 1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        tokens = [
            project(x).flatten(2).transpose(1, 2)  # (B, h * w, C)
            for project in (self.query_project, self.key_project, self.value_project)
        ]
        attended = F.scaled_dot_product_attention(*tokens)
        out: Tensor = self.output_project(attended.transpose(1, 2).reshape(x.shape))
        return out


def _projection(in_channels: int, out_channels: int, count: int, norm: bool) -> nn.Module:
    first = ConvNormAct(in_channels, out_channels, 1, norm=norm)
    if count == 1:
        return first
    return nn.Sequential(first, *(ConvNormAct(out_channels, out_channels, 1, norm=norm) for _ in range(count - 1)))


def interlaced_attention(x: Tensor, global_relation: nn.Module, local_relation: nn.Module) -> Tensor:
    """Apply both relations in turn to a map of any size: (B, C, H, W) -> the same shape.

    The map is padded with zeros to multiples of `CELL`, half on each side (the odd one at the bottom or right), and
    cut back at the end.
    """
    batch, channels, height, width = x.shape
    bottom, right = -height % CELL, -width % CELL
    top, left = bottom // 2, right // 2
    x = F.pad(x, (left, right - left, top, bottom - top))
    rows, columns = x.shape[2] // CELL, x.shape[3] // CELL
    cells = x.view(batch, channels, rows, CELL, columns, CELL)
    # One small map for each place inside a cell, made of that place in all cells.
    x = cells.permute(0, 3, 5, 1, 2, 4).reshape(batch * CELL * CELL, channels, rows, columns)
    x = global_relation(x)
    # One small map for each cell.
    x = x.view(batch, CELL, CELL, channels, rows, columns).permute(0, 4, 5, 3, 1, 2)
    x = local_relation(x.reshape(batch * rows * columns, channels, CELL, CELL))
    x = x.view(batch, rows, columns, channels, CELL, CELL).permute(0, 3, 1, 4, 2, 5)
    x = x.reshape(batch, channels, rows * CELL, columns * CELL)
    return x[:, :, top : top + height, left : left + width]


class ISALayer(nn.Module):
    """The fusion `isa` of the DAFormer decoder: a 1x1 conv+BN+ReLU, then both relations.

    It maps (B, Cin, H, W) to (B, C, H, W). Key and query have one convolution each; there is no residual connection.
    """

    def __init__(self, in_channels: int, channels: int, *, norm: bool = True) -> None:
        super().__init__()
        self.in_conv = ConvNormAct(in_channels, channels, 1, norm=norm)
        self.global_relation = SelfAttentionBlock(channels, channels, project_convs=1, norm=norm)
        self.local_relation = SelfAttentionBlock(channels, channels, project_convs=1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Cin, H, W) to (B, C, H, W)."""
        return interlaced_attention(self.in_conv(x), self.global_relation, self.local_relation)
