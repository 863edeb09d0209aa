"""HRDA: multi-resolution segmentation with a learned scale attention (paper section 3.4, "HRDA").

One encoder and one decoder see the whole image at low resolution (the context) and crops of it at full resolution
(the detail). A second, light decoder predicts from the context where the detail should be trusted:

    fused = up(a) * detail + up((1 - a) * context),        a = sigmoid(scale attention)

The products come before the upsampling, and outside the detail crops `a` is zero. For inference on whole images,
`hrda_core.windows.torch_windows` cuts them and calls `context`, `detail` and `fuse`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.errors import RecipeError
from hrda_core.window_plan import CropBox

__all__ = ["HRDA", "ContextOutput", "TrainOutput"]


@dataclass(frozen=True)
class ContextOutput:
    """Output of the context branch, on the grid of the context image at stride 4.

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
    """Output of the training forward. All logits are at stride 4 of the image they belong to.

    Attributes:
        fused: (B, C, H/4, W/4), the prediction.
        context: (B, C, H * s / 4, W * s / 4), context logits already multiplied by (1 - attention).
        detail: (B, C, h/4, w/4), logits of the detail crop alone.
        box: the detail crop, in image pixels.
        context_features: the four encoder maps of the context image.
        attention: (B, C or 1, H * s / 4, W * s / 4), weight of the detail branch, 0 outside the detail crop.
        detail_features: the four encoder maps of the detail crop.
    """

    fused: Tensor
    context: Tensor
    detail: Tensor
    box: CropBox
    context_features: list[Tensor]
    attention: Tensor
    detail_features: list[Tensor] = field(default_factory=list)


class _MultiResolutionHead(nn.Module):
    """The two decoders under the names of the released checkpoints: `head` and `scale_attention`."""

    def __init__(self, head: nn.Module, scale_attention: nn.Module | None) -> None:
        super().__init__()
        self.head = head
        self.scale_attention = scale_attention


class HRDA(nn.Module):
    """Two-scale network around any encoder and decoder.

    Args:
        backbone: encoder, (B, 3, H, W) -> list of feature maps; its attribute `channels` lists their channels.
        head: decoder, maps -> logits (B, num_classes, H/stride, W/stride); its attribute `stride` is the number of
            image pixels per logit (4 for DAFormer, 8 for DeepLabV2 on a dilated ResNet). It gets all maps and uses
            those that it needs.
        scale_attention: a head of the same stride with `num_classes` outputs (class-wise attention) or 1; None only
            with `fixed_attention`.
        detail_crop: height and width of the detail crop, image pixels, multiples of 8 and of `multiple_of`.
        context_scale: size of the context image relative to the image.
        fixed_attention: a constant instead of the learned attention: 0 = context only, 1 = detail only, 0.5 = mean.
        detail_scale: size of the image that detail crops are cut from relative to the image, `context_scale` or more.
            Equal scales are the paper's same-scale ablation.
        blur_detail: take the detail from a blurred image (down by 1/2, up by 2): the ablation that keeps the crops
            and removes the fine structure.
        overlapping_detail: detail crops of the plans `nested` and `overlap` overlap by half; else they are adjacent.

    Attributes:
        stride: pixels of the detail image per logit (of the image, with `detail_scale` 1).
        multiple_of: image sides, boxes and detail crops that are multiples of it lie on whole cells of both logit
            grids: `m * scale / stride` is whole for both scales. 8 with stride 4 and scales 1 and 0.5; 16 with scales
            1 and 0.25 or 0.75, and with stride 8.

    Raises:
        RecipeError: a detail crop is off the grids, a scale or attention is outside its range, the heads differ in
            stride, or there is not exactly one of learned and fixed attention.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        scale_attention: nn.Module | None,
        *,
        detail_crop: tuple[int, int] = (512, 512),
        context_scale: float = 0.5,
        fixed_attention: float | None = None,
        detail_scale: float = 1.0,
        blur_detail: bool = False,
        overlapping_detail: bool = True,
    ) -> None:
        super().__init__()
        _check_scales(context_scale, detail_scale)
        _check_attention(head, scale_attention, fixed_attention)
        self.detail_crop = detail_crop
        self.context_scale = context_scale
        self.detail_scale = detail_scale
        self.fixed_attention = fixed_attention
        self.blur_detail = blur_detail
        self.overlapping_detail = overlapping_detail
        self.stride: int = head.stride  # type: ignore[assignment]
        self.multiple_of = _multiple_of(self.stride, context_scale, detail_scale)
        step = math.lcm(8, self.multiple_of)
        if any(side < step or side % step for side in detail_crop):
            raise RecipeError(
                f"detail_crop must be two multiples of {step} pixels (stride {self.stride}, scales {context_scale} and "
                f"{detail_scale}), not {detail_crop}"
            )
        self.backbone = backbone
        self.decode_head = _MultiResolutionHead(head, scale_attention)

    def context(self, image: Tensor) -> ContextOutput:
        """Run the context branch on a normalised image (B, 3, H, W) with H and W multiples of `multiple_of`."""
        features: list[Tensor] = self.backbone(_resize(image, self.context_scale))
        logits: Tensor = self.decode_head.head(features)
        if self.decode_head.scale_attention is None:
            attention = logits.new_full((logits.shape[0], 1, *logits.shape[2:]), float(self.fixed_attention or 0.0))
        else:
            attention = torch.sigmoid(self.decode_head.scale_attention(features))
        return ContextOutput(logits, attention, features)

    def context_logits(self, image: Tensor) -> Tensor:
        """Run the context branch without its attention (window plan `context`) and return logits as in `context`."""
        logits: Tensor = self.decode_head.head(self.backbone(_resize(image, self.context_scale)))
        return logits

    def detail_image(self, image: Tensor) -> Tensor:
        """Resize to the image of the detail crops: (B, 3, H, W) -> (B, 3, H * detail_scale, W * detail_scale)."""
        sharp = _resize(image, self.detail_scale)
        if not self.blur_detail:
            return sharp
        return F.interpolate(_resize(sharp, 0.5), size=sharp.shape[2:], mode="bilinear", align_corners=False)

    def detail(self, crops: Tensor) -> Tensor:
        """Run the detail branch on crops of `detail_image`, (N, 3, h, w) -> logits (N, C, h/stride, w/stride)."""
        logits: Tensor = self.decode_head.head(self.backbone(crops))
        return logits

    def fuse(self, context: ContextOutput, detail: Tensor) -> Tensor:
        """Blend context with detail logits that cover the whole image, (B, C, H/4, W/4) -> the same shape."""
        scale = self.detail_scale / self.context_scale
        attention = _resize(context.attention, scale)
        return attention * detail + _resize((1 - context.attention) * context.logits, scale)

    def forward_train(self, image: Tensor, box: CropBox) -> TrainOutput:
        """Run the training forward with one detail crop for the whole batch; context first, then detail.

        Args:
            image: normalised, (B, 3, H, W), H and W multiples of `multiple_of`.
            box: detail crop in image pixels, multiples of `multiple_of` (so that it lies on the grids of both
                branches; other boxes are truncated to them).
        """
        context = self.context(image)
        detail_features: list[Tensor] = self.backbone(self._detail_crop(image, box))
        detail: Tensor = self.decode_head.head(detail_features)
        mask = torch.zeros_like(context.attention)
        mask[box.scaled(self.context_scale / self.stride).index] = 1
        masked = ContextOutput(context.logits, context.attention * mask, context.features)
        scale = self.detail_scale / self.stride
        corner = box.scaled(scale)
        height, width = (math.floor(side * scale) for side in image.shape[2:])
        margins = (corner.x1, width - corner.x1 - detail.shape[3], corner.y1, height - corner.y1 - detail.shape[2])
        fused = self.fuse(masked, F.pad(detail, margins))
        context_logits = (1 - masked.attention) * context.logits
        return TrainOutput(fused, context_logits, detail, box, context.features, masked.attention, detail_features)

    def forward(self, image: Tensor, grid: tuple[int, int] = (2, 2)) -> Tensor:
        """Run the window plan `tiles`: context plus `grid` disjoint detail tiles in one batch.

        Args:
            image: normalised, (B, 3, H, W); H / rows and W / columns multiples of `multiple_of`.

        Returns:
            fused logits (B, C, H/stride, W/stride), with H and W of the detail image.
        """
        context = self.context(image)
        return self.fuse(context, merge_tiles(self.detail(split_tiles(self.detail_image(image), grid)), grid))

    def _detail_crop(self, image: Tensor, box: CropBox) -> Tensor:
        return self.detail_image(image)[box.scaled(self.detail_scale).index]


def split_tiles(image: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cut (B, C, H, W) into rows x columns disjoint tiles: (B * rows * columns, C, H/rows, W/columns), batch-major."""
    batch, channels, height, width = image.shape
    rows, columns = grid
    tiles = image.reshape(batch, channels, rows, height // rows, columns, width // columns)
    return tiles.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // rows, width // columns)


def merge_tiles(tiles: Tensor, grid: tuple[int, int]) -> Tensor:
    """Put together what `split_tiles` cut: (B * rows * columns, C, h, w) -> (B, C, rows * h, columns * w)."""
    rows, columns = grid
    _, channels, height, width = tiles.shape
    canvas = tiles.reshape(-1, rows, columns, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return canvas.reshape(-1, channels, rows * height, columns * width)


def _resize(x: Tensor, scale: float) -> Tensor:
    """Bilinear, half-pixel centres, by factor: the factor itself enters the sampling positions."""
    return x if scale == 1 else F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def _multiple_of(stride: int, *scales: float) -> int:
    """Smallest m for which every m * scale / stride is whole."""
    return math.lcm(*((Fraction(scale).limit_denominator(64) / stride).denominator for scale in scales))


def _check_scales(context_scale: float, detail_scale: float) -> None:
    if not 0 < context_scale <= 1:
        raise RecipeError(f"context_scale must lie above 0 and not above 1, not {context_scale}")
    if not context_scale <= detail_scale <= 2:
        raise RecipeError(f"detail_scale must lie in context_scale..2 ({context_scale}..2), not {detail_scale}")


def _check_attention(head: nn.Module, scale_attention: nn.Module | None, fixed_attention: float | None) -> None:
    if (fixed_attention is None) == (scale_attention is None):
        raise RecipeError("HRDA takes either a scale_attention head or a fixed_attention, one of the two")
    if fixed_attention is not None and not 0 <= fixed_attention <= 1:
        raise RecipeError(f"fixed_attention must lie in 0..1, not {fixed_attention}")
    if scale_attention is not None and scale_attention.stride != head.stride:
        raise RecipeError(
            f"the scale attention has stride {scale_attention.stride}, the decoder {head.stride}; they must be equal"
        )
