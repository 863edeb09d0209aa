"""Training steps of the baselines that the paper joins with HRDA: MinEnt (`entropy.py`), AdvSeg (`adversarial.py`).

Both add to the supervised loss on source images a term on the prediction of target images, enlarged to image size. HRDA
draws a detail crop of its own for the target, and the term acts on the fused prediction. The paper trains these with
SGD: learning rate 0.0025, momentum 0.9, weight decay 5e-4. Reference: spec section 6.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from hrda_core.models.hrda import HRDA
from hrda_core.uda.adversarial import adversarial_loss, discriminator_loss
from hrda_core.uda.entropy import entropy_loss
from hrda_core.uda.precision import at_least_single
from hrda_core.uda.step import Batch, Networks, StepContext, StepRandom, StepResult
from hrda_core.uda.supervised import LossConfig, accuracies, draw_box, forward_losses, on_cpu

__all__ = ["adversarial_step", "entropy_step"]


def entropy_step(
    batch: Batch, networks: Networks, random: StepRandom, losses: LossConfig, weight: float, context: StepContext
) -> StepResult:
    """Run one step of MinEnt; `context.backward` is called for the source, then for the target.

    Args:
        batch: batch with target images.
        weight: weight of the target's entropy; 0.001 in the paper.

    Returns:
        losses `source.*` and `target.entropy`; metric `target_entropy` (not weighted, 0..1) and accuracies.
    """
    terms, metrics, _ = _source(batch, networks, random, losses, context)
    logits = _target_logits(batch, networks, random)
    entropy = entropy_loss(logits)
    context.backward(weight * entropy)
    terms["target.entropy"] = weight * entropy.detach()
    metrics["target_entropy"] = entropy.detach()
    return StepResult(terms, metrics, on_cpu(_pictures(batch, logits) if context.pictures else {}))


def adversarial_step(
    batch: Batch, networks: Networks, random: StepRandom, losses: LossConfig, weight: float, context: StepContext
) -> StepResult:
    """Run one step of AdvSeg; `context.backward` is called for the source, the target, then the discriminator.

    The student's gradients come from the first two, the discriminator's from the last alone. All three passes see the
    networks as they were before the step; the caller then steps both optimisers.

    Args:
        batch: batch with target images.
        networks: networks with a discriminator.
        weight: weight of the target's term; 0.001 in the paper.

    Returns:
        losses `source.*` and `target.adversarial`; metrics `discriminator_loss` (which the student does not minimise)
        and accuracies.
    """
    assert networks.discriminator is not None, "the adversarial baseline needs a discriminator"
    terms, metrics, source_logits = _source(batch, networks, random, losses, context)
    logits = _target_logits(batch, networks, random)
    probs = at_least_single(logits).softmax(1)
    adversarial = weight * adversarial_loss(networks.discriminator, probs)
    context.backward(adversarial)
    source_probs = at_least_single(_enlarged(source_logits, batch.source_images)).softmax(1)
    game = discriminator_loss(networks.discriminator, source_probs, probs)
    context.backward(game)
    terms["target.adversarial"] = adversarial.detach()
    metrics["discriminator_loss"] = game.detach()
    return StepResult(terms, metrics, on_cpu(_pictures(batch, logits) if context.pictures else {}))


def _source(
    batch: Batch, networks: Networks, random: StepRandom, losses: LossConfig, context: StepContext
) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Supervised loss and its backward pass: weighted terms, metrics, and the logits without their graph."""
    box = draw_box(networks.student, batch.source_images, random, "source detail crop")
    found = forward_losses(networks.student, batch.source_images, batch.source_labels, box, losses)
    context.backward(found.total)
    terms = {f"source.{name}": value.detach() for name, value in found.terms.items()}
    return terms, accuracies(found, batch.source_labels, box, "source", context), found.logits.detach()


def _target_logits(batch: Batch, networks: Networks, random: StepRandom) -> Tensor:
    """Prediction of the target images at image size, (B, C, H, W), with gradient."""
    images, student = batch.target_images, networks.student
    assert images is not None, "adapting needs target images"
    if isinstance(student, HRDA):
        box = draw_box(student, images, random, "target detail crop")
        assert box is not None
        return _enlarged(student.forward_train(images, box).fused, images)
    return _enlarged(student(images), images)


def _enlarged(logits: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False)


def _pictures(batch: Batch, target_logits: Tensor) -> Mapping[str, Tensor]:
    assert batch.target_images is not None
    return {
        "source_image": batch.source_images,
        "source_labels": batch.source_labels,
        "target_image": batch.target_images,
        "predicted_labels": target_logits.argmax(1),
    }
