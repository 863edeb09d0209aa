"""Options of a self-training iteration, and all of its random values (spec sections 7 and 8).

`draw_step` draws them from `StepRandom`; given them, `self_training.py` is deterministic but for dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hrda_core.errors import RecipeError
from hrda_core.models.hrda import HRDA
from hrda_core.models.segmenter import Segmenter
from hrda_core.uda.augment import JitterDraw, draw_blur, draw_jitter
from hrda_core.uda.class_mix import draw_classes
from hrda_core.uda.masked_consistency import MicConfig, draw_patch_field
from hrda_core.uda.step import Batch, StepContext, StepRandom
from hrda_core.uda.supervised import draw_box
from hrda_core.window_plan import CropBox

__all__ = ["Draws", "ImageSpace", "SelfTrainingConfig", "Strong", "draw_step"]


@dataclass(frozen=True)
class SelfTrainingConfig:
    """Options of self-training in a recipe.

    Attributes:
        alpha: decay of the teacher's moving average (0.999 in DAFormer and HRDA, 0.99 in plain DACS).
        threshold: tau; pixels with at least this probability count for the teacher's quality.
        jitter_probability, jitter_strength: colour jitter of mixed images.
        blur_probability: probability of a Gaussian blur of mixed images.
        teacher_plan: window plan of an HRDA teacher. The paper's is `overlap`: detail crops that overlap by half.
            `tiles` costs about half and departs from the paper.
        mic: masked image consistency (paper of MIC); None = off.
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
    """The meaning of class ids and pixel values.

    Attributes:
        num_classes: number of classes of the label space.
        things: ids of thing classes.
        mean, std: normalisation of images, RGB on the 0..255 scale.
    """

    num_classes: int
    things: tuple[int, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Strong:
    """Strong augmentation of a batch: one entry for each image, or none at all where the batch is left as it is."""

    jitter: tuple[JitterDraw, ...] = ()
    blur: tuple[float, ...] = ()


@dataclass(frozen=True)
class Draws:
    """All random values of one iteration.

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
    patches are drawn for each image.
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


def _classes_of_batch(labels: Tensor, context: StepContext) -> np.ndarray:
    """Ids that occur in the labels of all processes, ascending, "ignore" included."""
    present: Sequence[int] = labels.unique().tolist()  # type: ignore[no-untyped-call]
    table = torch.zeros(256, dtype=torch.int64, device=labels.device)
    table[present] = 1
    return np.flatnonzero(context.reduce(table).cpu().numpy())
