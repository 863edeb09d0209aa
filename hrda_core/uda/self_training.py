"""One iteration of DAFormer's and HRDA's self-training (paper section 3.1; spec section 7), with MIC as an option.

1. source images: segmentation loss, and the feature distance to the ImageNet encoder; one backward pass for both;
2. the teacher labels the target images (`pseudo_labels.py`);
3. half of the source classes are pasted onto the target images; colours are jittered, then blurred (`class_mix.py`,
   `augment.py`);
4. mixed images: segmentation loss, weighted by the teacher's quality on target pixels;
5. MIC: target images with patches hidden must give the teacher's labels too (`masked_consistency.py`).

Gradients of all losses add up; then the loop makes one optimiser step. The teacher is updated by the loop before the
step (`teacher.py`). All random values are in `Draws` (`draws.py`); given them, the step is deterministic but for
dropout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hrda_core.models.hrda import HRDA
from hrda_core.uda.augment import color_jitter, gaussian_blur
from hrda_core.uda.class_mix import class_mask, mix
from hrda_core.uda.draws import Draws, ImageSpace, SelfTrainingConfig, Strong, draw_step
from hrda_core.uda.feature_distance import FeatureDistanceConfig, imagenet_features, thing_feature_distance
from hrda_core.uda.masked_consistency import patch_mask
from hrda_core.uda.pseudo_labels import PseudoLabels, pseudo_labels
from hrda_core.uda.step import Batch, Networks, StepContext, StepResult
from hrda_core.uda.supervised import ForwardLosses, LossConfig, accuracies, forward_losses, on_cpu, predicted
from hrda_core.window_plan import CropBox
from hrda_core.windows.torch_windows import predict_logits

__all__ = [
    "Draws",
    "ImageSpace",
    "SelfTrainingConfig",
    "Strong",
    "draw_step",
    "mixed_batch",
    "self_training_step",
    "set_teacher_mode",
    "source_feature_distance",
]


def self_training_step(
    batch: Batch,
    networks: Networks,
    draws: Draws,
    space: ImageSpace,
    config: SelfTrainingConfig,
    losses: LossConfig,
    feature_distance: FeatureDistanceConfig,
    context: StepContext,
) -> StepResult:
    """Run one iteration; `context.backward` is called once each for source, mixed and masked images.

    Args:
        batch: batch with target images.
        networks: student (in the mode in which it is trained), teacher, and the ImageNet encoder if its distance has a
            weight.

    Returns:
        losses `source.*`, `feature_distance`, `mixed.*`, `masked.*`; metrics `pseudo_weight` (the teacher's quality)
        and accuracies.
    """
    source, distance = _source_losses(batch, networks, draws, space, losses, feature_distance, context)
    pseudo = _teacher_labels(batch, networks, config, context)
    images, labels, weight = mixed_batch(batch, pseudo, draws, space)
    mixed = forward_losses(networks.student, images, labels, draws.mixed_box, losses, weight)
    context.backward(mixed.total)
    masked = _masked_losses(batch, networks, pseudo, draws, space, config, losses, context)
    terms = {f"source.{name}": value.detach() for name, value in source.terms.items()} | distance
    terms |= {f"mixed.{name}": value.detach() for name, value in mixed.terms.items()} | masked
    metrics = {"pseudo_weight": pseudo.quality}
    metrics |= accuracies(source, batch.source_labels, draws.source_box, "source", context)
    metrics |= accuracies(mixed, labels, draws.mixed_box, "mixed", context)
    if not context.pictures:
        return StepResult(terms, metrics)
    assert batch.target_images is not None
    pictures = {
        "source_image": batch.source_images,
        "source_labels": batch.source_labels,
        "target_image": batch.target_images,
        "pseudo_labels": pseudo.labels,
        "pseudo_weight": pseudo.weight,
        "pseudo_probability": pseudo.probability,
        "mixed_image": images,
        "mixed_labels": labels,
        "mixed_weight": weight,
    }
    return StepResult(terms, metrics, on_cpu(pictures | predicted(mixed)))


def set_teacher_mode(teacher: nn.Module, student: nn.Module) -> None:
    """Switch off dropout and stochastic depth; BatchNorm normalises by the batch, as in the student.

    BatchNorm layers that are in eval mode in the student are so in the teacher too.
    """
    teacher.eval()
    for ours, theirs in zip(teacher.modules(), student.modules(), strict=True):
        if isinstance(ours, nn.modules.batchnorm._BatchNorm):
            ours.train(theirs.training)


def mixed_batch(batch: Batch, pseudo: PseudoLabels, draws: Draws, space: ImageSpace) -> tuple[Tensor, Tensor, Tensor]:
    """Apply ClassMix and strong augmentation.

    Returns:
        images (B, 3, H, W), labels int64 (B, H, W) and weights float (B, H, W).
    """
    assert batch.target_images is not None, "self-training needs target images"
    mask = torch.stack([class_mask(*pair) for pair in zip(batch.source_labels, draws.classes, strict=True)])
    images = mix(mask, batch.source_images, batch.target_images)
    images = _augment(images, draws.strong, space)
    labels = mix(mask, batch.source_labels, pseudo.labels)
    return images, labels, mix(mask, torch.ones_like(pseudo.weight), pseudo.weight)


def _source_losses(
    batch: Batch,
    networks: Networks,
    draws: Draws,
    space: ImageSpace,
    losses: LossConfig,
    config: FeatureDistanceConfig,
    context: StepContext,
) -> tuple[ForwardLosses, dict[str, Tensor]]:
    """Segmentation loss and feature distance share the encoder's pass, and one backward pass serves both."""
    source = forward_losses(networks.student, batch.source_images, batch.source_labels, draws.source_box, losses)
    total, named = source.total, {}
    if config.weight > 0:
        distance = config.weight * source_feature_distance(
            batch, networks, source, draws.source_box, space, config, context
        )
        total, named = total + distance, {"feature_distance": distance.detach()}
    context.backward(total)
    return source, named


def source_feature_distance(
    batch: Batch,
    networks: Networks,
    source: ForwardLosses,
    box: CropBox | None,
    space: ImageSpace,
    config: FeatureDistanceConfig,
    context: StepContext,
    copies: int = 1,
) -> Tensor:
    """Compute the distance of the deepest map (HRDA: of the context, by option of the detail too), not weighted.

    Args:
        source: forward pass over the source images; with `copies` 2 it shows them once more in another style.
        box: detail crop of HRDA.
        copies: how often the features show the batch.
    """
    student = networks.student
    assert networks.imagenet is not None, "the feature distance needs the ImageNet encoder"
    scale = student.context_scale if isinstance(student, HRDA) else 1.0
    views = [(source.features[-1], batch.source_images, batch.source_labels, scale)]
    if config.both_scales and box is not None and source.detail_features is not None:
        views.append((source.detail_features[-1], batch.source_images[box.index], batch.source_labels[box.index], 1.0))
    things = space.things if config.things_only else ()
    total = source.logits.new_zeros(())
    for features, images, labels, factor in views:
        frozen = imagenet_features(networks.imagenet, images, factor)
        total = total + thing_feature_distance(
            features,
            frozen.repeat(copies, 1, 1, 1),
            labels.repeat(copies, 1, 1),
            things,
            num_classes=space.num_classes,
            min_share=config.min_share,
            scale=factor,
            context=context,
        )
    return total


def _teacher_labels(batch: Batch, networks: Networks, config: SelfTrainingConfig, context: StepContext) -> PseudoLabels:
    teacher = networks.teacher
    assert teacher is not None, "self-training needs a teacher"
    assert batch.target_images is not None, "self-training needs target images"
    set_teacher_mode(teacher, networks.student)
    plan = config.teacher_plan if isinstance(teacher, HRDA) else "whole"
    logits = predict_logits(teacher, batch.target_images, plan)
    return pseudo_labels(logits, config.threshold, batch.target_trust, context)


def _masked_losses(
    batch: Batch,
    networks: Networks,
    pseudo: PseudoLabels,
    draws: Draws,
    space: ImageSpace,
    config: SelfTrainingConfig,
    losses: LossConfig,
    context: StepContext,
) -> dict[str, Tensor]:
    if config.mic is None:
        return {}
    assert batch.target_images is not None
    assert draws.patches is not None
    images, labels, weight = batch.target_images, pseudo.labels, pseudo.weight
    if config.mic.with_source:
        half = len(images) // 2
        images = torch.cat([batch.source_images[:half], images[half:]])
        labels = torch.cat([batch.source_labels[:half], labels[half:]])
        weight = torch.cat([torch.ones_like(weight[:half]), weight[half:]])
    images = _augment(images, draws.masked_strong, space)
    # Hidden pixels are 0 in normalised space: the mean colour.
    keep = patch_mask(draws.patches.to(images.device), config.mic.ratio, (images.shape[2], images.shape[3]))
    images, weight = images * keep[:, None], config.mic.weight * weight
    masked = forward_losses(networks.student, images, labels, draws.masked_box, losses, weight)
    context.backward(masked.total)
    return {f"masked.{name}": value.detach() for name, value in masked.terms.items()}


def _augment(images: Tensor, strong: Strong, space: ImageSpace) -> Tensor:
    # Pixels keep their precision where networks compute in half of it.
    with torch.autocast(images.device.type, enabled=False):
        if strong.jitter:
            images = color_jitter(images, strong.jitter, space.mean, space.std)
        return gaussian_blur(images, strong.blur) if strong.blur else images
