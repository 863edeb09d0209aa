"""MinEnt's loss: its range, its ends, and where its gradient leads."""

from __future__ import annotations

import math

import pytest
import torch

from hrda_core.uda.entropy import entropy_loss


def test_equal_logits_give_one_and_sure_logits_zero() -> None:
    assert float(entropy_loss(torch.full((2, 19, 3, 4), 5.0))) == pytest.approx(1, abs=1e-6)
    sure = torch.zeros(1, 19, 3, 4)
    sure[:, 7] = 200
    assert float(entropy_loss(sure)) == 0


def test_the_mean_runs_over_pixels_of_the_batch() -> None:
    logits = torch.zeros(2, 2, 1, 2)
    logits[1, :, 0, 1] = torch.tensor([math.log(3.0), 0.0])  # probabilities 3/4 and 1/4
    quarter = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert float(entropy_loss(logits)) == pytest.approx((3 + quarter) / 4, rel=1e-6)


def test_going_down_makes_the_first_choice_surer() -> None:
    logits = torch.tensor([0.5, 0.0, -0.5]).view(1, 3, 1, 1).requires_grad_()
    entropy_loss(logits).backward()
    assert logits.grad is not None
    before = logits.detach()
    assert (before - logits.grad).softmax(1)[0, 0] > before.softmax(1)[0, 0]


def test_impossible_classes_give_finite_gradients() -> None:
    logits = torch.tensor([500.0, 0.0, -500.0]).view(1, 3, 1, 1).requires_grad_()
    entropy_loss(logits).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
