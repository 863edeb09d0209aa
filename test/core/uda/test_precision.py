"""A run in double precision is double throughout; half precision is computed in single where digits count."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from tiny_network import TINY
from torch import Tensor

from hrda_core.models import create_model
from hrda_core.uda.adversarial import Discriminator
from hrda_core.uda.augment import gaussian_blur
from hrda_core.uda.baselines import adversarial_step
from hrda_core.uda.distillation import soft_loss
from hrda_core.uda.domain_generalization import style_consistency
from hrda_core.uda.entropy import entropy_loss
from hrda_core.uda.feature_distance import thing_feature_distance
from hrda_core.uda.losses import segmentation_loss
from hrda_core.uda.pseudo_labels import pseudo_labels
from hrda_core.uda.step import Batch, Networks, StepContext, StepRandom
from hrda_core.uda.style_hallucination import style_statistics
from hrda_core.uda.supervised import LossConfig

LABELS = torch.zeros(2, 8, 8, dtype=torch.int64)

COMPUTED: dict[str, Callable[[Tensor], Tensor]] = {
    "probability": lambda x: pseudo_labels(x, 0.3).probability,
    "quality": lambda x: pseudo_labels(x, 0.3).quality,
    "pixel weight": lambda x: pseudo_labels(x, 0.3).weight,
    "cross-entropy": lambda x: segmentation_loss(x, LABELS),
    "entropy": entropy_loss,
    "feature distance": lambda x: thing_feature_distance(x, x.flip(0), LABELS, (), num_classes=19),
    "taught": lambda x: soft_loss(x, x.flip(0), 2.0),
    "style consistency": style_consistency,
    "style": lambda x: style_statistics(x)[1],
}


@pytest.mark.parametrize("name", COMPUTED)
@pytest.mark.parametrize(
    ("given", "found"),
    [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_what_is_computed_is_single_at_least_and_double_for_double(
    name: str, given: torch.dtype, found: torch.dtype
) -> None:
    values = torch.randn(2, 5, 8, 8, generator=torch.Generator().manual_seed(0))
    assert COMPUTED[name](values.to(given)).dtype == found


def test_a_blur_in_double_has_the_bell_of_double_precision() -> None:
    point = torch.zeros(1, 3, 41, 41, dtype=torch.float64)
    point[..., 20, 20] = 1
    row = gaussian_blur(point, [0.9])[0, 0, 20]
    assert float(row[21] / row[20]) == pytest.approx(math.exp(-1 / (2 * 0.9**2)), rel=1e-14)


def test_the_adversarial_baseline_runs_in_double() -> None:
    torch.manual_seed(0)
    student = create_model("hrda_lite", 5, **TINY).train().double()
    networks = Networks(student, discriminator=Discriminator(5, channels=2).double())
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    batch = Batch(images, torch.zeros(2, 64, 64, dtype=torch.int64), images.flip(0))
    losses = adversarial_step(batch, networks, StepRandom(0, 0), LossConfig(), 0.1, StepContext()).losses
    assert {value.dtype for value in losses.values()} == {torch.float64}
