"""Knowledge distillation: a slim network learns the predictions of a larger one on images without labels.

    L = T^2 KL(softmax(z_large / T) || softmax(z_slim / T)),   mean over pixels        (Hinton et al., arXiv 1503.02531)

z_large are the fused logits of the larger network (the guide) over the whole crop, by a window plan. The slim network
runs as in every HRDA training: context, one detail crop, fusion. Its fused, detail and context predictions are each
compared with the guide's fused ones, as HRDA compares all three with the same labels, with the weights of `LossConfig`.
The context thus learns to say what the larger network says with its detail. Optionally, the attention maps are drawn to
the guide's, and labelled source images add their cross-entropy.

With temperature 0 the guide gives hard labels instead, as a control for the soft ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hrda_core.errors import RecipeError
from hrda_core.models.hrda import HRDA, TrainOutput
from hrda_core.uda.augment import color_jitter, draw_blur, draw_jitter, gaussian_blur
from hrda_core.uda.draws import ImageSpace
from hrda_core.uda.losses import segmentation_loss
from hrda_core.uda.precision import at_least_single
from hrda_core.uda.step import Batch, Guide, Networks, StepContext, StepRandom, StepResult
from hrda_core.uda.supervised import LossConfig, accuracies, draw_box, forward_losses, on_cpu
from hrda_core.window_plan import CropBox
from hrda_core.windows.torch_windows import predict_logits

__all__ = ["DistillationConfig", "GuideConfig", "attention_distance", "distillation_step", "soft_loss"]


@dataclass(frozen=True)
class GuideConfig:
    """The larger network from which the slim one learns.

    Attributes:
        name: name for logs and model cards.
        preset, overrides: the network, see `hrda_core.models.presets`.
        weights: its `model.safetensors`, from a bundle or a run.
        sha256: hash of that file; empty = not checked. A resumed run must not meet another file.
    """

    name: str
    weights: Path
    preset: str = "hrda_lite"
    overrides: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""


@dataclass(frozen=True)
class DistillationConfig:
    """Options of distillation in a recipe.

    Attributes:
        guide: the larger network.
        start: what the slim network takes over from the guide: `slices` = the encoder and the heaviest channels of
            DAFormer decoders (`slim_start.py`), as far as they fit; `encoder` = the encoder alone. Not with
            `model.weights`.
        temperature: T; 1 = the guide's probabilities; larger values show more of what it holds possible; 0 = its
            classes as hard labels.
        plan: window plan of an HRDA guide: `overlap`, or `tiles` at about half the cost.
        attention: weight of the squared difference of the attention maps inside the detail crop; 0 = left out.
        source: weight of the labelled source images.
        jitter_probability, jitter_strength, blur_probability: augmentation of the slim network's input, drawn image by
            image; the guide sees the image unchanged.
    """

    guide: GuideConfig
    start: Literal["slices", "encoder"] = "slices"
    temperature: float = 2.0
    plan: str = "overlap"
    attention: float = 0.0
    source: float = 1.0
    jitter_probability: float = 0.5
    jitter_strength: float = 0.2
    blur_probability: float = 0.25

    def __post_init__(self) -> None:
        if min(self.temperature, self.attention, self.source) < 0:
            raise RecipeError(
                f"distillation: temperature, attention and source are 0 or more, not {self.temperature}, "
                f"{self.attention} and {self.source}"
            )
        if not 0 <= self.jitter_probability <= 1 or not 0 <= self.blur_probability <= 1:
            raise RecipeError(
                f"distillation: jitter_probability and blur_probability lie in 0..1, not {self.jitter_probability} "
                f"and {self.blur_probability}"
            )


def distillation_step(
    batch: Batch,
    networks: Networks,
    random: StepRandom,
    space: ImageSpace,
    config: DistillationConfig,
    losses: LossConfig,
    context: StepContext,
) -> StepResult:
    """Run one iteration; `context.backward` is called for the source images (if any), then for the target.

    Args:
        batch: batch with target images; there may be no source images, (0, 3, H, W).
        networks: the student, and the guide in eval mode.
        space: normalisation of the batch.

    Returns:
        losses `source.*`, `distilled.fused`, `.detail`, `.context`, `.attention`; metrics `agreement` (share of pixels
        with the guide's class) and source accuracies.
    """
    images, guide = batch.target_images, networks.guide
    assert images is not None, "distillation needs target images"
    assert guide is not None, "distillation needs a guide"
    terms, metrics = _source_losses(batch, networks, random, config, losses, context)
    seen = _in_space_of(guide, images, space)
    taught = predict_logits(guide.network, seen, config.plan if isinstance(guide.network, HRDA) else "whole")
    changed = _augment(images, random, space, config)
    box = draw_box(networks.student, images, random, "target detail crop")
    logits, distilled = _student_losses(networks, changed, seen, box, taught, batch.target_trust, config, losses)
    context.backward(sum(distilled.values(), start=logits.new_zeros(())))
    terms |= {f"distilled.{name}": value.detach() for name, value in distilled.items()}
    if not (context.metrics or context.pictures):
        return StepResult(terms, metrics)
    found, wanted = _enlarged(logits.detach(), images).argmax(1), taught.argmax(1)
    metrics |= {"agreement": (found == wanted).float().mean()}
    pictures = {"target_image": changed, "pseudo_labels": wanted, "predicted_labels": found}
    return StepResult(terms, metrics, on_cpu(pictures if context.pictures else {}))


def soft_loss(logits: Tensor, taught: Tensor, temperature: float, weight: Tensor | None = None) -> Tensor:
    """Compute T^2 KL(taught || logits), averaged over all pixels; `temperature` 0: cross-entropy with taught classes.

    Args:
        logits: (B, C, h, w) of any resolution; upsampled bilinearly to the size of `taught`.
        taught: (B, C, H, W), logits of the guide, without gradient.
        weight: (B, H, W), multiplied into each pixel's loss.
    """
    if temperature == 0:
        return segmentation_loss(logits, taught.argmax(1), weight)
    logits, taught = at_least_single(logits), at_least_single(taught)
    said = F.log_softmax(_enlarged(logits, taught) / temperature, dim=1)
    wanted = F.log_softmax(taught / temperature, dim=1)
    loss = temperature**2 * F.kl_div(said, wanted, reduction="none", log_target=True).sum(1)
    return (loss if weight is None else loss * weight).mean()


def attention_distance(attention: Tensor, wanted: Tensor, box: CropBox, scale: float) -> Tensor:
    """Compute the mean squared difference of two attention maps inside the detail crop.

    Outside the detail crop the training forward sets the attention to 0, so nothing is learnt there.

    Args:
        attention: (B, C or 1, h, w), 0..1, of the student's training forward.
        wanted: (B, C or 1, h', w'), of the guide; resized bilinearly to the student's grid. Class-wise maps and a
            single map for all classes are compared by broadcasting.
        box: detail crop, image pixels.
        scale: cells of the student's grid per image pixel.
    """
    size = (attention.shape[2], attention.shape[3])
    wanted = F.interpolate(wanted, size=size, mode="bilinear", align_corners=False)
    inside = box.scaled(scale).index
    return (attention[inside] - wanted[inside]).square().mean()


def _source_losses(
    batch: Batch,
    networks: Networks,
    random: StepRandom,
    config: DistillationConfig,
    losses: LossConfig,
    context: StepContext,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    if not len(batch.source_images) or not config.source:
        return {}, {}
    box = draw_box(networks.student, batch.source_images, random, "source detail crop")
    found = forward_losses(networks.student, batch.source_images, batch.source_labels, box, losses)
    context.backward(config.source * found.total)
    terms = {f"source.{name}": config.source * value.detach() for name, value in found.terms.items()}
    return terms, accuracies(found, batch.source_labels, box, "source", context)


def _student_losses(
    networks: Networks,
    images: Tensor,
    seen: Tensor,
    box: CropBox | None,
    taught: Tensor,
    trust: Tensor | None,
    config: DistillationConfig,
    losses: LossConfig,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Prediction of the student, (B, C, H/4, W/4), and weighted loss terms with gradient."""
    student, weight = networks.student, None if trust is None else trust.to(taught.dtype)
    if not isinstance(student, HRDA):
        logits = student(images)
        return logits, {"fused": soft_loss(logits, taught, config.temperature, weight)}
    assert box is not None
    output = student.forward_train(images, box)
    inside = None if weight is None else weight[box.index]
    named = {
        "fused": (1 - losses.detail - losses.context, output.fused, taught, weight),
        "detail": (losses.detail, output.detail, taught[box.index], inside),
        "context": (losses.context, output.context, taught, weight),
    }
    terms = {
        name: share * soft_loss(logits, wanted, config.temperature, trusted)
        for name, (share, logits, wanted, trusted) in named.items()
        if share
    }
    return output.fused, terms | _attention_loss(networks, output, seen, config)


def _attention_loss(
    networks: Networks, output: TrainOutput, seen: Tensor, config: DistillationConfig
) -> dict[str, Tensor]:
    student, guide = networks.student, networks.guide
    if not config.attention or guide is None or not isinstance(guide.network, HRDA) or not isinstance(student, HRDA):
        return {}
    with torch.no_grad():
        wanted = guide.network.context(seen).attention
    distance = attention_distance(output.attention, wanted, output.box, student.context_scale / student.stride)
    return {"attention": config.attention * distance}


def _in_space_of(guide: Guide, images: Tensor, space: ImageSpace) -> Tensor:
    """The batch, normalised as the guide wants it."""
    if (guide.mean, guide.std) == (space.mean, space.std):
        return images
    ours, theirs = (
        [images.new_tensor(value).view(3, 1, 1) for value in pair]
        for pair in ((space.mean, space.std), (guide.mean, guide.std))
    )
    return (images * ours[1] + ours[0] - theirs[0]) / theirs[1]


def _augment(images: Tensor, random: StepRandom, space: ImageSpace, config: DistillationConfig) -> Tensor:
    """Each image jittered or blurred or left as it is, by draws of its own."""
    return torch.stack(
        [_changed(image[None], random, place, space, config)[0] for place, image in enumerate(images.unbind(0))]
    )


def _changed(image: Tensor, random: StepRandom, place: int, space: ImageSpace, config: DistillationConfig) -> Tensor:
    rng = random.image(place, "distilled appearance")
    jitter, blur = rng.uniform(size=2)
    # Pixels keep their precision where networks compute in half of it.
    with torch.autocast(image.device.type, enabled=False):
        if jitter < config.jitter_probability:
            image = color_jitter(image, [draw_jitter(rng, config.jitter_strength)], space.mean, space.std)
        return gaussian_blur(image, [draw_blur(rng)]) if blur < config.blur_probability else image


def _enlarged(logits: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(logits, size=like.shape[2:], mode="bilinear", align_corners=False)
