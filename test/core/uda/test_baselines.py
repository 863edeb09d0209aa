"""Steps of MinEnt and AdvSeg on a tiny HRDA and a tiny single-scale network."""

from __future__ import annotations

import pytest
import torch
from tiny_network import TINY
from torch import Tensor

from hrda_core.models import create_model
from hrda_core.uda.adversarial import Discriminator
from hrda_core.uda.baselines import adversarial_step, entropy_step
from hrda_core.uda.step import Batch, Networks, StepContext, StepRandom, StepResult
from hrda_core.uda.supervised import LossConfig, supervised_step

RANDOM = StepRandom(seed=3, iteration=5)


def _networks(hrda: bool = True) -> Networks:
    torch.manual_seed(0)
    student = create_model("hrda_lite", 5, **TINY, hrda=hrda).train()
    return Networks(student, discriminator=Discriminator(5, channels=2))


def _batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    source, target = torch.randn(2, 2, 3, 64, 64, generator=generator)
    return Batch(source, torch.randint(0, 5, (2, 64, 64), generator=generator), target)


def _gradients(networks: Networks) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in networks.student.named_parameters() if p.grad is not None}


def _step(method: str, networks: Networks, weight: float, context: StepContext | None = None) -> StepResult:
    step = {"entropy": entropy_step, "adversarial": adversarial_step}[method]
    torch.manual_seed(2)  # dropout
    return step(_batch(), networks, RANDOM, LossConfig(), weight, context or StepContext())


@pytest.mark.parametrize("hrda", [True, False])
@pytest.mark.parametrize(("method", "term"), [("entropy", "target.entropy"), ("adversarial", "target.adversarial")])
def test_losses_are_those_of_the_source_and_a_weighted_one_of_the_target(method: str, term: str, hrda: bool) -> None:
    networks = _networks(hrda)
    losses = _step(method, networks, 0.25).losses
    assert set(losses) == {term} | ({"source.fused", "source.detail"} if hrda else {"source.segmentation"})
    assert not any(value.requires_grad for value in losses.values())
    doubled = _step(method, _networks(hrda), 0.5).losses
    assert float(doubled[term]) == pytest.approx(2 * float(losses[term]), rel=1e-5)
    assert float(losses[term]) > 0


@pytest.mark.parametrize("method", ["entropy", "adversarial"])
def test_with_weight_zero_the_student_learns_from_the_source_alone(method: str) -> None:
    networks, plain = _networks(), _networks()
    _step(method, networks, 0.0)
    torch.manual_seed(2)
    supervised_step(_batch(), plain, RANDOM, LossConfig(), StepContext())
    for name, gradient in _gradients(plain).items():
        torch.testing.assert_close(_gradients(networks)[name], gradient, rtol=1e-5, atol=1e-8)
    weighted = _networks()
    _step(method, weighted, 1.0)
    assert any(
        not torch.allclose(gradient, _gradients(weighted)[name], rtol=1e-3)
        for name, gradient in _gradients(plain).items()
    )


def test_the_discriminator_learns_from_its_own_loss_alone() -> None:
    def discriminator_gradients(weight: float) -> list[Tensor]:
        networks = _networks()
        _step("adversarial", networks, weight)
        assert networks.discriminator is not None
        return [p.grad for p in networks.discriminator.parameters() if p.grad is not None]

    off, strong = discriminator_gradients(0.0), discriminator_gradients(100.0)
    assert len(off) == 10
    assert all(torch.equal(*pair) for pair in zip(off, strong, strict=True))
    assert all(bool(gradient.any()) for gradient in off)


def test_each_loss_has_a_backward_pass_of_its_own() -> None:
    seen: list[float] = []

    def backward(loss: Tensor) -> None:
        seen.append(float(loss.detach()))
        loss.backward()

    result = _step("adversarial", _networks(), 0.001, StepContext(backward))
    source = sum(float(value) for name, value in result.losses.items() if name.startswith("source."))
    expected = [source, float(result.losses["target.adversarial"]), float(result.metrics["discriminator_loss"])]
    assert seen == pytest.approx(expected, rel=1e-6)
    assert len(seen) == 3


@pytest.mark.parametrize("method", ["entropy", "adversarial"])
def test_pictures_and_accuracies_come_only_if_asked_for(method: str) -> None:
    result = _step(method, _networks(), 0.001, StepContext(pictures=True))
    assert result.pictures["predicted_labels"].shape == (2, 64, 64)
    assert "source.accuracy" in result.metrics
    quiet = _step(method, _networks(), 0.001, StepContext(metrics=False))
    assert "source.accuracy" not in quiet.metrics
    assert not quiet.pictures
