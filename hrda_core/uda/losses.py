"""Segmentation losses of DAFormer and HRDA (paper sections 3.1 and 3.4; spec sections 3 and 4.2).

The mean runs over all pixels: ignored pixels count in the divisor, and a weight map is not normalised by its sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hrda_core.labels import IGNORE_LABEL
from hrda_core.models.hrda import TrainOutput
from hrda_core.uda.precision import at_least_single

__all__ = ["HrdaLosses", "hrda_loss", "pixel_accuracy", "segmentation_loss"]


@dataclass(frozen=True)
class HrdaLosses:
    """Loss terms of HRDA as weighted scalars with gradient; `total` is their sum."""

    fused: Tensor
    detail: Tensor | None
    context: Tensor | None

    @property
    def total(self) -> Tensor:
        """Sum of the terms."""
        return sum((term for term in (self.detail, self.context) if term is not None), self.fused)


def segmentation_loss(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Compute the cross-entropy, averaged over all pixels.

    Args:
        logits: (B, C, h, w) of any resolution; upsampled bilinearly to the labels' size.
        labels: int64 (B, H, W); `IGNORE_LABEL` pixels give 0.
        weight: float (B, H, W), multiplied into each pixel's loss.
    """
    upsampled = _upsampled(at_least_single(logits), (labels.shape[1], labels.shape[2]))
    loss = F.cross_entropy(upsampled, labels, ignore_index=IGNORE_LABEL, reduction="none")
    return (loss if weight is None else loss * weight).mean()


def hrda_loss(
    output: TrainOutput,
    labels: Tensor,
    weight: Tensor | None = None,
    *,
    detail_weight: float = 0.1,
    context_weight: float = 0.0,
) -> HrdaLosses:
    """Compute the loss of the fused, detail and context predictions: (1 - d - c) fused + d detail + c context.

    Args:
        output: result of `HRDA.forward_train`.
        labels: int64 (B, H, W) at image size.
        weight: float (B, H, W) or None.
        detail_weight: lambda_d of the paper, 0.1.
        context_weight: weight of the attention-weighted context prediction alone; 0 leaves it out.
    """
    box = output.box
    inside = (slice(None), slice(box.y1, box.y2), slice(box.x1, box.x2))
    crop_weight = None if weight is None else weight[inside]
    fused = (1 - detail_weight - context_weight) * segmentation_loss(output.fused, labels, weight)
    detail = detail_weight * segmentation_loss(output.detail, labels[inside], crop_weight) if detail_weight else None
    context = context_weight * segmentation_loss(output.context, labels, weight) if context_weight else None
    return HrdaLosses(fused, detail, context)


def _upsampled(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly. On a CPU as two matrix products, whose gradients take a sixth of the resizing's time."""
    if logits.device.type != "cpu":
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    rows, columns = (_resizing(logits, before, after) for before, after in zip(logits.shape[2:], size, strict=True))
    return rows @ (logits.contiguous() @ columns.T)


def _resizing(like: Tensor, before: int, after: int) -> Tensor:
    """The matrix (after, before) that resizes a column linearly with half-pixel centres."""
    each = torch.eye(before, dtype=like.dtype)[None]
    return F.interpolate(each, size=after, mode="linear", align_corners=False)[0].T


def pixel_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of pixels, 0..1, whose top class is right.

    As in the reference, ignored pixels count as wrong.
    """
    upsampled = F.interpolate(logits.detach(), size=labels.shape[1:], mode="bilinear", align_corners=False)
    return float((upsampled.argmax(1) == labels).float().mean())
