"""The supervised loss on labelled images, for HRDA and for single-scale networks (paper sections 3.1 and 3.4).

Every step is made of this: source images with their labels, mixed images with pseudo-labels and weights. On its own it
is the source-only baseline, and with target labels the upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from hrda_core.errors import RecipeError
from hrda_core.models.hrda import HRDA
from hrda_core.models.segmenter import Segmenter
from hrda_core.uda.detail_crop import draw_detail_crop
from hrda_core.uda.losses import hrda_loss, pixel_accuracy, segmentation_loss
from hrda_core.uda.step import Batch, Networks, StepContext, StepRandom, StepResult
from hrda_core.window_plan import CropBox

__all__ = ["ForwardLosses", "LossConfig", "draw_box", "forward_losses", "supervised_step"]


@dataclass(frozen=True)
class LossConfig:
    """Weights of HRDA's loss terms; single-scale networks have one term of weight 1.

    Attributes:
        detail: lambda_d of the paper: weight of the detail crop's own loss.
        context: weight of the attention-weighted context prediction's own loss; the paper uses it (equal to `detail`)
            only where the detail crop is the whole training crop.
    """

    detail: float = 0.1
    context: float = 0.0

    def __post_init__(self) -> None:
        if self.detail < 0 or self.context < 0 or self.detail + self.context > 1:
            raise RecipeError(
                f"loss weights must be 0 or more and sum to at most 1, not {self.detail} and {self.context}"
            )


@dataclass(frozen=True)
class ForwardLosses:
    """Loss terms of one forward pass.

    Attributes:
        terms: weighted scalars with gradient: `fused`, `detail`, `context` of HRDA; `segmentation` of others.
        logits: prediction (B, C, H/4, W/4): fused, or that of the single scale.
        detail_logits: HRDA: (B, C, h/4, w/4) of the detail crop.
        features: encoder maps of the context branch, or of the single scale, finest first.
        detail_features: HRDA: encoder maps of the detail crop.
        attention: HRDA: weight of the detail branch at each cell, mean over classes, (B, h, w); else None.
    """

    terms: Mapping[str, Tensor]
    logits: Tensor
    features: list[Tensor]
    detail_logits: Tensor | None = None
    detail_features: list[Tensor] | None = None
    attention: Tensor | None = None

    @property
    def total(self) -> Tensor:
        """Sum of the terms."""
        return sum(self.terms.values(), start=self.logits.new_zeros(()))


def draw_box(student: HRDA | Segmenter, images: Tensor, random: StepRandom, purpose: str) -> CropBox | None:
    """Draw the detail crop of one forward pass, one box for the whole batch; return None for single-scale networks."""
    if not isinstance(student, HRDA):
        return None
    return draw_detail_crop((images.shape[2], images.shape[3]), student.detail_crop, random.shared(purpose))


def forward_losses(
    student: HRDA | Segmenter,
    images: Tensor,
    labels: Tensor,
    box: CropBox | None,
    config: LossConfig,
    weight: Tensor | None = None,
) -> ForwardLosses:
    """Run the student on images (B, 3, H, W) and compare with labels (B, H, W).

    Args:
        box: detail crop of HRDA; None for single-scale networks.
        weight: float (B, H, W), multiplied into each pixel's loss.
    """
    if not isinstance(student, HRDA):
        features = student.backbone(images)
        logits = student.decode_head(features)
        return ForwardLosses({"segmentation": segmentation_loss(logits, labels, weight)}, logits, features)
    assert box is not None, "HRDA needs a detail crop"
    output = student.forward_train(images, box)
    losses = hrda_loss(output, labels, weight, detail_weight=config.detail, context_weight=config.context)
    named = {"fused": losses.fused, "detail": losses.detail, "context": losses.context}
    return ForwardLosses(
        terms={name: value for name, value in named.items() if value is not None},
        logits=output.fused,
        features=output.context_features,
        detail_logits=output.detail,
        detail_features=output.detail_features,
        attention=output.attention.detach().mean(1),
    )


def supervised_step(
    batch: Batch, networks: Networks, random: StepRandom, config: LossConfig, context: StepContext
) -> StepResult:
    """Run one step of plain supervision on the source batch; with target labels as "source" it is the upper bound."""
    box = draw_box(networks.student, batch.source_images, random, "source detail crop")
    found = forward_losses(networks.student, batch.source_images, batch.source_labels, box, config)
    context.backward(found.total)
    pictures = {}
    if context.pictures:
        pictures = {"source_image": batch.source_images, "source_labels": batch.source_labels} | predicted(found)
    losses = {f"source.{name}": value.detach() for name, value in found.terms.items()}
    return StepResult(losses, accuracies(found, batch.source_labels, box, "source", context), on_cpu(pictures))


def accuracies(
    found: ForwardLosses, labels: Tensor, box: CropBox | None, prefix: str, context: StepContext
) -> dict[str, Tensor]:
    """Return the pixel accuracies, 0..1, of prediction and detail crop; nothing if `context.metrics` is False."""
    if not context.metrics:
        return {}
    metrics = {f"{prefix}.accuracy": found.logits.new_tensor(pixel_accuracy(found.logits, labels))}
    if box is not None and found.detail_logits is not None:
        detail = pixel_accuracy(found.detail_logits, labels[box.index])
        metrics[f"{prefix}.detail_accuracy"] = found.logits.new_tensor(detail)
    return metrics


def predicted(found: ForwardLosses) -> dict[str, Tensor]:
    """Return the tensors to draw: the student's prediction and where HRDA trusts its detail."""
    labels = found.logits.detach().argmax(1)
    pictures = {"predicted_labels": F.interpolate(labels[:, None].float(), scale_factor=4)[:, 0].long()}
    return pictures if found.attention is None else pictures | {"attention": found.attention}


def on_cpu(pictures: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors to the CPU, so that a later drawing holds no graph and no device memory."""
    return {name: value.detach().to("cpu", copy=True) for name, value in pictures.items()}
