"""One iteration of domain generalization: source images alone, each also in a hallucinated style (HRDA for DG; SHADE).

The encoder doubles the batch after its first stage (`style_hallucination.py`). Both halves learn the same labels, both
stay near the ImageNet features of the image, and their predictions p, p' must agree:

    L = CE over 2B images + 0.005 * feature distance of both halves + 10 * L_SC
    L_SC = 1/2 [KL(p || m) + KL(p' || m)],   m = (p + p') / 2         softmax of fused logits at stride 4

One backward pass serves the sum. There is no target, no teacher and no mixing. Reference: spec section 13.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from hrda_core.errors import RecipeError
from hrda_core.models.hrda import HRDA
from hrda_core.uda.feature_distance import FeatureDistanceConfig
from hrda_core.uda.precision import at_least_single
from hrda_core.uda.self_training import ImageSpace, source_feature_distance
from hrda_core.uda.step import Batch, Networks, StepContext, StepRandom, StepResult
from hrda_core.uda.style_hallucination import attached_styles, draw_style_weights
from hrda_core.uda.supervised import (
    ForwardLosses,
    LossConfig,
    accuracies,
    draw_box,
    forward_losses,
    on_cpu,
    predicted,
)

__all__ = ["DgConfig", "domain_generalization_step", "draw_styles", "style_consistency"]

_SMALLEST_PROBABILITY = 1e-7
_SMALLEST_CONCENTRATION = 0.01
"""Below it all Gamma draws behind a Dirichlet draw can underflow to 0."""


@dataclass(frozen=True)
class DgConfig:
    """Options of domain generalization in a recipe.

    Attributes:
        consistency_weight: weight of L_SC; 10 in the paper.
        prototypes: number of styles that are mixed.
        prototype_every: iterations between two collections of prototypes; the first is before the first iteration.
        concentration: concentration of the Dirichlet distribution that mixes the styles.
    """

    consistency_weight: float = 10.0
    prototypes: int = 64
    prototype_every: int = 4000
    concentration: float = 0.0156

    def __post_init__(self) -> None:
        if self.consistency_weight < 0 or self.prototypes < 1 or self.prototype_every < 1:
            raise RecipeError(
                f"generalization needs consistency_weight >= 0, prototypes and prototype_every >= 1, not "
                f"{self.consistency_weight}, {self.prototypes} and {self.prototype_every}"
            )
        if self.concentration < _SMALLEST_CONCENTRATION:
            raise RecipeError(
                f"generalization.concentration must be at least {_SMALLEST_CONCENTRATION}, not {self.concentration}"
            )


def style_consistency(logits: Tensor) -> Tensor:
    """Compute L_SC, not weighted: the Jensen-Shannon divergence of the two halves, averaged over the pixels of one.

    Args:
        logits: (2B, C, h, w): images, then the same images in other styles.

    Returns:
        scalar with gradient into both halves.
    """
    ours, theirs = at_least_single(logits).log_softmax(1).chunk(2)
    middle = ((ours.exp() + theirs.exp()) / 2).clamp(_SMALLEST_PROBABILITY, 1).log()
    divergence = ours.exp() * (ours - middle) + theirs.exp() * (theirs - middle)
    return 0.5 * divergence.sum(1).mean()


def draw_styles(random: StepRandom, images: int, passes: int, config: DgConfig) -> list[Tensor]:
    """Draw mixture weights (B, prototypes), one tensor for each pass through the encoder.

    Each image has random generators of its own.
    """
    return [
        draw_style_weights(
            [random.image(index, f"style of encoder pass {number}") for index in range(images)],
            config.prototypes,
            config.concentration,
        )
        for number in range(passes)
    ]


def domain_generalization_step(
    batch: Batch,
    networks: Networks,
    random: StepRandom,
    space: ImageSpace,
    config: DgConfig,
    losses: LossConfig,
    feature_distance: FeatureDistanceConfig,
    context: StepContext,
) -> StepResult:
    """Run one iteration; `context.backward` is called once.

    Args:
        batch: labelled images; target images are not used.
        networks: the student in train mode with `attach_styles` and prototypes, and the ImageNet encoder if its
            distance has a weight.

    Returns:
        losses `source.*` (over both halves), `feature_distance`, `style_consistency`, and accuracies.

    Raises:
        RecipeError: the student has no prototypes, or not as many as `config` says.
    """
    student = networks.student
    styles = attached_styles(student)
    assert styles is not None, "domain generalization needs attach_styles(student)"
    assert styles.training, "styles are hallucinated in train mode only"
    images, labels = batch.source_images, batch.source_labels.repeat(2, 1, 1)
    box = draw_box(student, images, random, "source detail crop")
    with styles.drawn(draw_styles(random, len(images), 2 if isinstance(student, HRDA) else 1, config)):
        found = forward_losses(student, images, labels, box, losses)
    extra = {}
    if feature_distance.weight > 0:
        distance = source_feature_distance(batch, networks, found, box, space, feature_distance, context, copies=2)
        extra["feature_distance"] = feature_distance.weight * distance
    if config.consistency_weight > 0:
        extra["style_consistency"] = config.consistency_weight * style_consistency(found.logits)
    context.backward(sum(extra.values(), start=found.total))
    terms = {f"source.{name}": value for name, value in found.terms.items()} | extra
    return StepResult(
        {name: value.detach() for name, value in terms.items()},
        accuracies(found, labels, box, "source", context),
        on_cpu(_pictures(batch, found) if context.pictures else {}),
    )


def _pictures(batch: Batch, found: ForwardLosses) -> Mapping[str, Tensor]:
    """What is drawn, of the first half: the images in their own style."""
    count = len(batch.source_images)
    own: dict[str, Tensor] = {name: value[:count] for name, value in predicted(found).items()}
    return own | {"source_image": batch.source_images, "source_labels": batch.source_labels}
