"""Input and output of a training step, which every method (`self_training.py`, `domain_generalization.py`, ...) shares.

A step is a function of (batch, networks, iteration, random, options) that calls `backward` on each loss as soon as it
is complete, so that no two graphs are in memory at once, and returns a record. It neither steps an optimiser nor logs,
plots or saves.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from hrda_core.models.hrda import HRDA
from hrda_core.models.segmenter import Segmenter

__all__ = ["Batch", "Guide", "Networks", "Reduce", "StepContext", "StepRandom", "StepResult", "alone"]

Backward = Callable[[Tensor], None]
Reduce = Callable[[Tensor], Tensor]


def alone(value: Tensor) -> Tensor:
    """Return `value` itself, which is the sum over all processes if there is only one."""
    return value


@dataclass(frozen=True)
class Batch:
    """Training samples of one iteration on one process.

    Attributes:
        source_images: float (B, 3, H, W), normalised; B = 0 for distillation without labelled images.
        source_labels: int64 (B, H, W), `IGNORE_LABEL` where unknown.
        target_images: float (B, 3, H, W), normalised; None for methods without a target.
        target_trust: bool (B, H, W), False where pseudo-labels must not be trusted (own bonnet, image border,
            padding); None = trusted everywhere.
    """

    source_images: Tensor
    source_labels: Tensor
    target_images: Tensor | None = None
    target_trust: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Batch:
        """Return the batch on a device, with its images as `dtype`."""

        def moved(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            return value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)

        return Batch(**{name: moved(value) for name, value in vars(self).items()})  # type: ignore[arg-type]

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from which copies to a GPU run asynchronously."""
        pinned = {name: None if value is None else value.pin_memory() for name, value in vars(self).items()}
        return Batch(**pinned)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Guide:
    """A larger network from which a slim one learns: frozen, in eval mode.

    Attributes:
        network: a network of any preset with the same classes.
        mean, std: normalisation of its input, RGB on the 0..255 scale.
    """

    network: HRDA | Segmenter
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass
class Networks:
    """The networks of a run. Only the student (and a discriminator) is trained by gradients.

    Attributes:
        student: the network that is trained, evaluated and exported.
        teacher: moving average of the student, for self-training; `supervised` and `distillation` export it.
        imagenet: encoder with its ImageNet weights, frozen, in eval mode, for the feature distance.
        discriminator: discriminator of the adversarial baseline.
        guide: larger network, for distillation.
    """

    student: HRDA | Segmenter
    teacher: HRDA | Segmenter | None = None
    imagenet: nn.Module | None = None
    discriminator: nn.Module | None = None
    guide: Guide | None = None


@dataclass(frozen=True)
class StepRandom:
    """The random generators of one step (dropout aside), independent by purpose and place.

    They depend on nothing but the seed, the iteration, the purpose and an image's place in the global batch, so a
    resumed run, and a run on another number of processes, draws the same.

    Attributes:
        seed: seed of the run.
        iteration: number of the iteration, from 0.
        first: place of this process's first image in the global batch.
    """

    seed: int
    iteration: int
    first: int = 0

    def shared(self, purpose: str) -> np.random.RandomState:
        """Return one generator for the whole batch, equal on all processes."""
        return self._generator(purpose, 0)

    def image(self, index: int, purpose: str) -> np.random.RandomState:
        """Return the generator of image `index` of this process's batch."""
        return self._generator(purpose, 1 + self.first + index)

    def _generator(self, purpose: str, place: int) -> np.random.RandomState:
        key = (self.seed, self.iteration, zlib.crc32(purpose.encode()), place)
        return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(key)))


@dataclass(frozen=True)
class StepContext:
    """The surroundings of a step: gradients, other processes, and what the log wants.

    Attributes:
        backward: called once on each loss, in order; gradients accumulate in the student.
        reduce: returns the sum of a tensor over all processes (the tensor itself on one process).
        processes: number of processes. Losses that are means over the pixels of the whole batch are scaled by it, since
            gradients are averaged over processes.
        metrics: also compute what only the log needs (accuracies).
        pictures: also return the tensors to draw.
    """

    backward: Backward = torch.Tensor.backward
    reduce: Reduce = alone
    processes: int = 1
    metrics: bool = True
    pictures: bool = False


@dataclass(frozen=True)
class StepResult:
    """The losses, metrics and pictures of a step.

    Attributes:
        losses: detached scalars by name, already weighted; their sum was minimised.
        metrics: other detached scalars, for the log.
        pictures: tensors on the CPU by name, only if asked for: `source_image`, `target_image`, `mixed_image`
            (normalised, (B, 3, H, W)), `source_labels`, `pseudo_labels`, `mixed_labels`, `predicted_labels` (int64
            (B, H, W)), `pseudo_weight`, `attention` (float (B, h, w), 0..1); each method gives those it has.
    """

    losses: Mapping[str, Tensor]
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    pictures: Mapping[str, Tensor] = field(default_factory=dict)
