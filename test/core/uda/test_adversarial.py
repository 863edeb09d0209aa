"""AdvSeg's discriminator: it learns, takes any size, and each side of the game has its own gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hrda_core.errors import RecipeError
from hrda_core.uda.adversarial import (
    Discriminator,
    DiscriminatorConfig,
    adversarial_loss,
    build_discriminator_optimizer,
    discriminator_loss,
)


def _maps(seed: int, favourite: int) -> Tensor:
    """Softmax maps that lean to one class."""
    logits = torch.randn(4, 5, 32, 32, generator=torch.Generator().manual_seed(seed))
    logits[:, favourite] += 1
    return logits.softmax(1)


def test_it_learns_to_tell_two_distributions() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(5, channels=4)
    optimizer = build_discriminator_optimizer(discriminator, DiscriminatorConfig(lr=2e-3))
    before = discriminator_loss(discriminator, _maps(1000, 1), _maps(1001, 2)).detach()
    for step in range(60):
        optimizer.zero_grad()
        discriminator_loss(discriminator, _maps(2 * step, 1), _maps(2 * step + 1, 2)).backward()
        optimizer.step()
    with torch.no_grad():
        source, target = discriminator(_maps(1000, 1)), discriminator(_maps(1001, 2))
        assert source.min() > 0.5 > target.max()
        assert discriminator_loss(discriminator, _maps(1000, 1), _maps(1001, 2)) < 0.2 * before
        # Maps that pass for the source's cost the network less than those that do not.
        assert adversarial_loss(discriminator, _maps(1002, 1)) < adversarial_loss(discriminator, _maps(1003, 2))


@pytest.mark.parametrize(
    ("size", "scores"), [((1, 1), (1, 1)), ((16, 40), (1, 1)), ((64, 96), (2, 3)), ((70, 33), (2, 1))]
)
def test_any_size_gives_scores(size: tuple[int, int], scores: tuple[int, int]) -> None:
    assert Discriminator(3, channels=2)(torch.rand(2, 3, *size)).shape == (2, 1, *scores)


def test_it_is_five_halvings_that_double_their_channels() -> None:
    convs = [module for module in Discriminator(19).modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [64, 128, 256, 512, 1]
    assert all((conv.kernel_size, conv.stride) == ((4, 4), (2, 2)) for conv in convs)


def test_layers_leak_a_fifth_of_what_is_negative() -> None:
    discriminator = Discriminator(1, channels=1)
    with torch.no_grad():
        for conv in discriminator.convs:
            conv.weight.zero_()  # type: ignore[operator,union-attr]
            conv.weight[:, 0, 1, 1] = 1  # type: ignore[index]
            conv.bias.zero_()  # type: ignore[operator,union-attr]
        positive, negative = (discriminator(torch.full((1, 1, 32, 32), sign)) for sign in (1.0, -1.0))
    assert float(positive[0, 0, 0, 0]) == pytest.approx(1)
    assert float(negative[0, 0, 0, 0]) == pytest.approx(-(0.2**4))


def test_losses_are_least_squares_to_one_and_zero() -> None:
    class Constant(nn.Module):
        def forward(self, probs: Tensor) -> Tensor:
            return probs.mean((1, 2, 3), keepdim=True)

    low, high = torch.full((2, 1, 4, 4), 0.2), torch.full((2, 1, 4, 4), 0.7)
    assert float(adversarial_loss(Constant(), low)) == pytest.approx(0.8**2)
    assert float(discriminator_loss(Constant(), high, low)) == pytest.approx((0.3**2 + 0.2**2) / 2)


def test_each_loss_has_gradients_for_its_own_side_alone() -> None:
    discriminator = Discriminator(5, channels=2)
    source, target = _maps(0, 1).requires_grad_(), _maps(1, 2).requires_grad_()
    adversarial_loss(discriminator, target).backward()
    assert target.grad is not None
    assert bool(target.grad.any())
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    assert all(parameter.requires_grad for parameter in discriminator.parameters())
    target.grad = None
    discriminator_loss(discriminator, source, target).backward()
    assert source.grad is None
    assert target.grad is None
    assert all(bool(parameter.grad.any()) for parameter in discriminator.parameters())  # type: ignore[union-attr]


def test_the_optimiser_has_the_papers_values() -> None:
    (group,) = build_discriminator_optimizer(Discriminator(2, channels=1), DiscriminatorConfig()).param_groups
    assert (group["lr"], group["base_lr"], group["betas"]) == (1e-4, 1e-4, (0.9, 0.99))


@pytest.mark.parametrize("values", [{"lr": 0.0}, {"betas": (0.9, 1.0)}, {"power": -1.0}])
def test_impossible_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="discriminator needs"):
        DiscriminatorConfig(**values)
