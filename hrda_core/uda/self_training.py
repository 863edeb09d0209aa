"""One iteration of DAFormer's and HRDA's self-training (paper section 3.1; spec section 7), with MIC as an option.

1. source images: segmentation loss, and the feature distance to the ImageNet encoder; one backward pass for both;
2. the teacher labels the target images (`pseudo_labels.py`);
3. half of the source classes are pasted onto the target images; colours are jittered, then blurred (`class_mix.py`,
   `augment.py`);
4. mixed images: segmentation loss, weighted by the teacher's quality on target pixels;
5. MIC: target images with patches hidden must give the teacher's labels too (`masked_consistency.py`).

Gradients of all losses add up; then the loop makes one optimiser step. The teacher is updated by the loop before the
step (`teacher.py`). All random values are in `Draws`: given them, the step is deterministic (but for dropout).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from hrda_core.errors import RecipeError
from hrda_core.inference.torch_windows import predict_logits
from hrda_core.models.hrda import HRDA
from hrda_core.models.segmenter import Segmenter
from hrda_core.uda.augment import JitterDraw, color_jitter, draw_blur, draw_jitter, gaussian_blur
from hrda_core.uda.class_mix import class_mask, draw_classes, mix
from hrda_core.uda.feature_distance import FeatureDistanceConfig, imagenet_features, thing_feature_distance
from hrda_core.uda.masked_consistency import MicConfig, draw_patch_field, patch_mask
from hrda_core.uda.pseudo_labels import PseudoLabels, pseudo_labels
from hrda_core.uda.step import Batch, Networks, StepContext, StepRandom, StepResult
from hrda_core.uda.supervised import (
    ForwardLosses,
    LossConfig,
    accuracies,
    draw_box,
    forward_losses,
    on_cpu,
    predicted,
)
from hrda_core.window_plan import CropBox

__all__ = ["Draws", "ImageSpace", "SelfTrainingConfig", "Strong", "draw_step", "self_training_step"]


@dataclass(frozen=True)
class SelfTrainingConfig:
    """Self-training of a recipe.

    Attributes:
        alpha: decay of the teacher's moving average (0.999 in DAFormer and HRDA, 0.99 in plain DACS).
        threshold: tau; pixels at least this probable count for the teacher's quality.
        jitter_probability, jitter_strength: colour jitter of mixed images.
        blur_probability: Gaussian blur of mixed images.
        teacher_plan: window plan of an HRDA teacher. The paper's is `overlap`: detail crops that overlap by half.
            `tiles` costs about half and is a deviation.
        mic: masked image consistency; None = off (paper of MIC).
    """

    alpha: float = 0.999
    threshold: float = 0.968
    jitter_probability: float = 0.8
    jitter_strength: float = 0.2
    blur_probability: float = 0.5
    teacher_plan: str = "overlap"
    mic: MicConfig | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < 1:
            raise RecipeError(f"alpha is the decay of the teacher, in 0..1 (1 excluded), not {self.alpha}")
        shares = (self.threshold, self.jitter_probability, self.blur_probability)
        if not all(0 <= share <= 1 for share in shares):
            raise RecipeError(f"threshold, jitter_probability and blur_probability lie in 0..1, not {shares}")


@dataclass(frozen=True)
class ImageSpace:
    """How class ids and pixel values are to be read.

    Attributes:
        num_classes: of the label space.
        things: ids of thing classes.
        mean, std: normalisation of images, RGB on the 0..255 scale.
    """

    num_classes: int
    things: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Strong:
    """Strong augmentation of a batch: one entry an image, or nothing where the batch is left as it is."""

    jitter: tuple[JitterDraw, ...] = ()
    blur: tuple[float, ...] = ()


@dataclass(frozen=True)
class Draws:
    """Every random value of one iteration.

    Attributes:
        source_box, mixed_box, masked_box: detail crops of the passes over source, mixed and masked images.
        classes: for each image, the ids that are pasted from it.
        strong: augmentation of the mixed images.
        masked_strong: augmentation of the masked target images (MIC).
        patches: uniform fields of the patch masks, (B, h, w) in 0..1 (MIC).
    """

    source_box: CropBox | None
    mixed_box: CropBox | None
    classes: tuple[np.ndarray, ...]
    strong: Strong = field(default_factory=Strong)
    masked_box: CropBox | None = None
    masked_strong: Strong = field(default_factory=Strong)
    patches: Tensor | None = None


def draw_step(
    batch: Batch, student: HRDA | Segmenter, random: StepRandom, config: SelfTrainingConfig, context: StepContext
) -> Draws:
    """Draw the random values of one iteration.

    Decisions for the batch (detail crops, whether to jitter and blur) are equal on all processes; classes, factors and
    patches belong to an image.
    """
    images, count = batch.source_images, len(batch.source_images)
    candidates = _classes_of_batch(batch.source_labels, context)
    draws = Draws(
        source_box=draw_box(student, images, random, "source detail crop"),
        mixed_box=draw_box(student, images, random, "mixed detail crop"),
        classes=tuple(draw_classes(candidates, random.image(index, "class mix")) for index in range(count)),
        strong=_draw_strong(random, count, config, "strong"),
    )
    if config.mic is None:
        return draws
    fields = [
        draw_patch_field(random.image(index, "patch mask"), images.shape[2], images.shape[3], config.mic.block)
        for index in range(count)
    ]
    return Draws(
        **vars(draws)
        | {
            "masked_box": draw_box(student, images, random, "masked detail crop"),
            "masked_strong": _draw_strong(random, count, config, "masked strong") if config.mic.augment else Strong(),
            "patches": torch.from_numpy(np.stack(fields)),
        }
    )


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
    """Losses of one iteration; `context.backward` is called once for source, mixed and masked images each.

    Args:
        batch: with target images.
        networks: student (mode as it is to be trained), teacher, and the ImageNet encoder if its distance has a weight.

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
    """Dropout and stochastic depth off; BatchNorm normalises by the batch, as in the student.

    BatchNorm layers that rest in the student rest in the teacher too.
    """
    teacher.eval()
    for ours, theirs in zip(teacher.modules(), student.modules(), strict=True):
        if isinstance(ours, nn.modules.batchnorm._BatchNorm):
            ours.train(theirs.training)


def mixed_batch(batch: Batch, pseudo: PseudoLabels, draws: Draws, space: ImageSpace) -> tuple[Tensor, Tensor, Tensor]:
    """ClassMix and strong augmentation: images (B, 3, H, W), labels int64 and weights float (B, H, W)."""
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
) -> Tensor:
    """Distance of the deepest map (HRDA: of the context, by option of the detail too), not weighted."""
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
            frozen,
            labels,
            things,
            num_classes=space.num_classes,
            min_share=config.min_share,
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
    images = _augment(batch.target_images, draws.masked_strong, space)
    # Hidden pixels are 0 in normalised space: the mean colour.
    keep = patch_mask(draws.patches.to(images.device), config.mic.ratio, (images.shape[2], images.shape[3]))
    masked = forward_losses(
        networks.student,
        images * keep[:, None],
        pseudo.labels,
        draws.masked_box,
        losses,
        config.mic.weight * pseudo.weight,
    )
    context.backward(masked.total)
    return {f"masked.{name}": value.detach() for name, value in masked.terms.items()}


def _draw_strong(random: StepRandom, count: int, config: SelfTrainingConfig, purpose: str) -> Strong:
    """One decision for the batch, values for each image."""
    jitter, blur = random.shared(purpose).uniform(size=2)
    factors = [random.image(index, purpose) for index in range(count)]
    return Strong(
        tuple(draw_jitter(rng, config.jitter_strength) for rng in factors)
        if jitter < config.jitter_probability
        else (),
        tuple(draw_blur(rng) for rng in factors) if blur < config.blur_probability else (),
    )


def _augment(images: Tensor, strong: Strong, space: ImageSpace) -> Tensor:
    if strong.jitter:
        images = color_jitter(images, strong.jitter, space.mean, space.std)
    return gaussian_blur(images, strong.blur) if strong.blur else images


def _classes_of_batch(labels: Tensor, context: StepContext) -> np.ndarray:
    """Ids that occur in the labels of all processes, ascending, "ignore" included."""
    present: Sequence[int] = labels.unique().tolist()  # type: ignore[no-untyped-call]
    table = torch.zeros(256, dtype=torch.int64, device=labels.device)
    table[present] = 1
    return np.flatnonzero(context.reduce(table).cpu().numpy())
