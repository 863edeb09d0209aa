"""Pseudo-labels of the teacher and their quality weight (paper section 3.1, eq. for q_T; spec section 7).

Every pixel gets its most probable class. One number for the whole batch, the share of pixels whose probability reaches
the threshold, weighs the loss of all of them: the more certain the teacher, the larger its weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hrda_core.uda.precision import at_least_single
from hrda_core.uda.step import StepContext

__all__ = ["PseudoLabels", "pseudo_labels"]


@dataclass(frozen=True)
class PseudoLabels:
    """The teacher's prediction of target images.

    Attributes:
        labels: int64 (B, H, W), the most probable class of every pixel.
        probability: float (B, H, W), 0..1, probability of that class.
        quality: scalar in 0..1, share of pixels of the whole batch at or above the threshold.
        weight: float (B, H, W): `quality`, and 0 where the image is not trusted.
    """

    labels: Tensor
    probability: Tensor
    quality: Tensor
    weight: Tensor


@torch.no_grad()
def pseudo_labels(
    logits: Tensor, threshold: float, trust: Tensor | None = None, context: StepContext | None = None
) -> PseudoLabels:
    """Turn the teacher's logits (B, C, H, W), at image resolution, into labels and weights.

    Args:
        threshold: tau, 0.968 in the paper.
        trust: bool (B, H, W); where it is False the weight is 0, which does not change the quality of the rest.
        context: with several processes the quality is that of all images.
    """
    context = context or StepContext()
    logits = at_least_single(logits)
    top, labels = logits.max(dim=1)
    probability = 1 / torch.exp(logits - top[:, None]).sum(dim=1)  # softmax of the winner alone
    sure = context.reduce((probability >= threshold).sum().double())
    quality = (sure / (context.processes * probability.numel())).to(probability.dtype)
    weight = quality.expand_as(probability)
    if trust is not None:
        weight = weight * trust
    return PseudoLabels(labels, probability, quality, weight)
