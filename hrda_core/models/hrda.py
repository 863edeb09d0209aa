"""HRDA: multi-resolution segmentation with a learned scale attention (paper section 3.4, "HRDA").

One encoder and one decoder see the whole image at low resolution (the context) and crops of it at full resolution
(the detail). A second, light decoder predicts from the context where the detail should be trusted:

    fused = up(a) * detail + up((1 - a) * context),        a = sigmoid(scale attention)

Products come before the upsampling, and outside the detail crops `a` counts as zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.errors import RecipeError
from hrda_core.models.daformer_head import DAFormerHead
from hrda_core.window_plan import CropBox

__all__ = ["HRDA", "STRIDE", "ContextOutput", "TrainOutput"]

STRIDE = 4
"""Image pixels per logit."""


@dataclass(frozen=True)
class ContextOutput:
    """What the context branch gives, on the grid of the context image at stride 4.

    Attributes:
        logits: (B, C, H * s / 4, W * s / 4), s = context scale, not weighted by the attention.
        attention: (B, C or 1, same grid) in 0..1: the weight of the detail branch.
        features: the four encoder maps of the context image.
    """

    logits: Tensor
    attention: Tensor
    features: list[Tensor]


@dataclass(frozen=True)
class TrainOutput:
    """What the training forward gives. All logits at stride 4 of the image they belong to.

    Attributes:
        fused: (B, C, H/4, W/4), the prediction.
        context: (B, C, H * s / 4, W * s / 4), context logits already multiplied by (1 - attention).
        detail: (B, C, h/4, w/4), logits of the detail crop alone.
        box: the detail crop, in image pixels.
        context_features: the four encoder maps of the context image.
    """

    fused: Tensor
    context: Tensor
    detail: Tensor
    box: CropBox
    context_features: list[Tensor]


class _MultiResolutionHead(nn.Module):
    """The two decoders under the names of the released checkpoints: `head` and `scale_attention`."""

    def __init__(self, head: nn.Module, scale_attention: nn.Module | None) -> None:
        super().__init__()
        self.head = head
        self.scale_attention = scale_attention


class HRDA(nn.Module):
    """Two-scale network around any encoder and decoder of stride 4.

    Args:
        backbone: (B, 3, H, W) -> list of four maps; has `channels`.
        head: maps -> logits (B, num_classes, H/4, W/4).
        num_classes: classes of the logits.
        detail_crop: height and width of the training's detail crop, pixels, multiples of 8.
        context_scale: size of the context image relative to the image.
        embed_channels, attention_channels: widths of the attention decoder (its fusion is one 1x1 convolution).
        classwise_attention: one attention map for each class, or one for all.
        fixed_attention: a constant instead of the learned attention: 0 = context only, 1 = detail only.

    Raises:
        RecipeError: a detail crop that is not a multiple of 8, or a scale or attention outside its range.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        num_classes: int,
        *,
        detail_crop: tuple[int, int] = (512, 512),
        context_scale: float = 0.5,
        embed_channels: int = 256,
        attention_channels: int = 256,
        classwise_attention: bool = True,
        fixed_attention: float | None = None,
    ) -> None:
        super().__init__()
        if any(side < 8 or side % 8 for side in detail_crop):
            raise RecipeError(f"detail_crop must be two multiples of 8 pixels, not {detail_crop}")
        if not 0 < context_scale < 1:
            raise RecipeError(f"context_scale must lie between 0 and 1, not {context_scale}")
        if fixed_attention is not None and not 0 <= fixed_attention <= 1:
            raise RecipeError(f"fixed_attention must lie in 0..1, not {fixed_attention}")
        self.detail_crop = detail_crop
        self.context_scale = context_scale
        self.fixed_attention = fixed_attention
        self.num_classes = num_classes
        self.backbone = backbone
        channels: Sequence[int] = backbone.channels  # type: ignore[assignment]
        attention = None
        if fixed_attention is None:
            attention = DAFormerHead(
                channels,
                num_classes if classwise_attention else 1,
                decoder_channels=attention_channels,
                embed_channels=embed_channels,
                fusion="conv1",
            )
        self.decode_head = _MultiResolutionHead(head, attention)

    def context(self, image: Tensor) -> ContextOutput:
        """Run the context branch on a normalised image (B, 3, H, W); H and W multiples of 8."""
        small = F.interpolate(image, scale_factor=self.context_scale, mode="bilinear", align_corners=False)
        features: list[Tensor] = self.backbone(small)
        logits: Tensor = self.decode_head.head(features)
        if self.decode_head.scale_attention is None:
            attention = logits.new_full((logits.shape[0], 1, *logits.shape[2:]), float(self.fixed_attention or 0.0))
        else:
            attention = torch.sigmoid(self.decode_head.scale_attention(features))
        return ContextOutput(logits, attention, features)

    def detail(self, crops: Tensor) -> Tensor:
        """Run the detail branch on full-resolution crops (N, 3, h, w) -> logits (N, C, h/4, w/4)."""
        logits: Tensor = self.decode_head.head(self.backbone(crops))
        return logits

    def fuse(self, context: ContextOutput, detail: Tensor) -> Tensor:
        """Blend context with detail logits that cover the whole image, (B, C, H/4, W/4) -> the same shape."""
        scale = 1 / self.context_scale
        attention = _upsample(context.attention, scale)
        return attention * detail + _upsample((1 - context.attention) * context.logits, scale)

    def forward_train(self, image: Tensor, box: CropBox) -> TrainOutput:
        """Training forward with one detail crop for the whole batch.

        Args:
            image: normalised, (B, 3, H, W), H and W multiples of 8.
            box: detail crop in image pixels, multiples of 8 (so that it lies on the grids of both branches).
        """
        context = self.context(image)
        detail = self.detail(image[:, :, box.y1 : box.y2, box.x1 : box.x2])
        inside = box.scaled_down(round(STRIDE / self.context_scale))
        mask = torch.zeros_like(context.attention)
        mask[:, :, inside.y1 : inside.y2, inside.x1 : inside.x2] = 1
        masked = ContextOutput(context.logits, context.attention * mask, context.features)
        on_grid = box.scaled_down(STRIDE)
        height, width = image.shape[2] // STRIDE, image.shape[3] // STRIDE
        canvas = F.pad(detail, (on_grid.x1, width - on_grid.x2, on_grid.y1, height - on_grid.y2))
        fused = self.fuse(masked, canvas)
        return TrainOutput(fused, (1 - masked.attention) * context.logits, detail, box, context.features)

    def forward(self, image: Tensor, grid: tuple[int, int] = (2, 2)) -> Tensor:
        """Window plan `tiles`: context plus `grid` disjoint detail tiles in one batch.

        Args:
            image: normalised, (B, 3, H, W); H / rows and W / columns multiples of 8.

        Returns:
            fused logits (B, C, H/4, W/4).
        """
        context = self.context(image)
        return self.fuse(context, merge_tiles(self.detail(split_tiles(image, grid)), grid))


def split_tiles(image: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cut (B, C, H, W) into rows x columns disjoint tiles, batch-major: (B * rows * columns, C, H/rows, W/columns)."""
    batch, channels, height, width = image.shape
    rows, columns = grid
    tiles = image.reshape(batch, channels, rows, height // rows, columns, width // columns)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // rows, width // columns)


def merge_tiles(tiles: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put back what `split_tiles` cut: (B * rows * columns, C, h, w) -> (B, C, rows * h, columns * w)."""
    rows, columns = grid
    _, channels, height, width = tiles.shape
    canvas = tiles.reshape(-1, rows, columns, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return canvas.reshape(-1, channels, rows * height, columns * width)


def _upsample(x: Tensor, scale: float) -> Tensor:
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
