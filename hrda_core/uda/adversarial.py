"""AdvSeg: predictions on target images learn to look like those on source images (arXiv 1802.10349, sections 3 and 4).

A discriminator D takes softmax maps P and says for each place whether they are from the source (1) or the target (0).
Both sides of the game minimise least squares (LS-GAN):

    loss of D = 1/2 mean (D(P_source) - 1)^2 + 1/2 mean D(P_target)^2
    loss of the network = 0.001 * mean (D(P_target) - 1)^2

It is a baseline of the HRDA paper (table "HRDA with other UDA methods"). Reference: spec section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hrda_core.errors import RecipeError

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "adversarial_loss",
    "build_discriminator_optimizer",
    "discriminator_loss",
]

_LAYERS = 5
_SMALLEST = 2**_LAYERS
"""Below this side nothing would be left after five halvings."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Optimiser of the discriminator.

    Attributes:
        lr: learning rate of Adam; 1e-4 in the paper.
        betas: moment decay rates of Adam; (0.9, 0.99) in the paper.
        power: exponent of the polynomial decay of `lr` to 0; 0.9 in the paper.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    power: float = 0.9

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.power < 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise RecipeError(
                f"discriminator needs lr > 0, betas in 0..1 (1 excluded) and power >= 0, not {self.lr}, {self.betas} "
                f"and {self.power}"
            )


class Discriminator(nn.Module):
    """Five 4 x 4 convolutions of stride 2 with LeakyReLU 0.2 between them and without normalisation.

    Args:
        num_classes: channels of the softmax maps.
        channels: channels of the first layer; they double until the fourth, and the fifth has one.
    """

    def __init__(self, num_classes: int, channels: int = 64) -> None:
        super().__init__()
        widths = [num_classes, *(channels * 2**layer for layer in range(_LAYERS - 1)), 1]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1) for before, after in pairwise(widths)
        )

    def forward(self, probs: Tensor) -> Tensor:
        """Map softmax maps (B, C, H, W) to scores (B, 1, H // 32, W // 32). Sides shorter than 32 are padded to 32."""
        bottom, right = (max(0, _SMALLEST - side) for side in probs.shape[2:])
        scores = F.pad(probs, (0, right, 0, bottom), mode="replicate") if bottom or right else probs
        for layer, conv in enumerate(self.convs):
            scores = conv(scores)
            if layer < _LAYERS - 1:
                scores = F.leaky_relu(scores, 0.2)
        return scores


def adversarial_loss(discriminator: nn.Module, target_probs: Tensor) -> Tensor:
    """Compute how far the target's maps are from passing for the source's, not weighted.

    The gradient goes to `target_probs` alone: the discriminator learns from `discriminator_loss` only.

    Args:
        target_probs: softmax maps (B, C, H, W) with gradient.
    """
    fixed = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    scores: Tensor = functional_call(discriminator, fixed, (target_probs,))
    return (scores - 1).square().mean()


def discriminator_loss(discriminator: nn.Module, source_probs: Tensor, target_probs: Tensor) -> Tensor:
    """Compute what the discriminator minimises. The gradient goes to the discriminator alone.

    Args:
        source_probs, target_probs: softmax maps (B, C, H, W).
    """
    source: Tensor = discriminator(source_probs.detach())
    target: Tensor = discriminator(target_probs.detach())
    return 0.5 * (source - 1).square().mean() + 0.5 * target.square().mean()


def build_discriminator_optimizer(discriminator: nn.Module, config: DiscriminatorConfig) -> torch.optim.Adam:
    """Build Adam with one group, whose `base_lr` a schedule multiplies, as in the student's optimiser."""
    group: dict[str, Any] = {"params": list(discriminator.parameters()), "name": "discriminator", "base_lr": config.lr}
    return torch.optim.Adam([group], lr=config.lr, betas=config.betas)
