"""Losses: what is divided by what."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hrda_core.models.hrda import TrainOutput
from hrda_core.uda.losses import hrda_loss, pixel_accuracy, segmentation_loss
from hrda_core.window_plan import CropBox


def _logits(height: int = 4, width: int = 6) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def _labels(height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.randint(0, 3, (2, height, width), generator=torch.Generator().manual_seed(1))


def test_ignored_pixels_count_in_the_divisor() -> None:
    labels = _labels()
    half = labels.clone()
    half[:, ::2] = 255
    upsampled = F.interpolate(_logits(), size=(16, 24), mode="bilinear", align_corners=False)
    valid_mean = F.cross_entropy(upsampled, half, ignore_index=255)
    torch.testing.assert_close(segmentation_loss(_logits(), half), valid_mean / 2)


def test_a_weight_map_is_not_normalised_by_its_sum() -> None:
    plain = segmentation_loss(_logits(), _labels())
    weighted = segmentation_loss(_logits(), _labels(), torch.full((2, 16, 24), 0.25))
    torch.testing.assert_close(weighted, plain * 0.25)


def test_all_pixels_ignored_gives_zero_and_finite_gradients() -> None:
    logits = _logits().requires_grad_()
    loss = segmentation_loss(logits, torch.full((2, 16, 24), 255))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def _output() -> TrainOutput:
    return TrainOutput(_logits(), _logits(2, 3), _logits(2, 2), CropBox(0, 8, 8, 16), [], _logits(2, 3))


def test_terms_are_weighted_and_sum_to_the_total() -> None:
    labels = _labels()
    losses = hrda_loss(_output(), labels, detail_weight=0.1, context_weight=0.2)
    assert losses.detail is not None
    assert losses.context is not None
    torch.testing.assert_close(losses.fused, 0.7 * segmentation_loss(_logits(), labels))
    torch.testing.assert_close(losses.detail, 0.1 * segmentation_loss(_logits(2, 2), labels[:, 0:8, 8:16]))
    torch.testing.assert_close(losses.context, 0.2 * segmentation_loss(_logits(2, 3), labels))
    torch.testing.assert_close(losses.total, losses.fused + losses.detail + losses.context)


def test_weight_0_leaves_a_term_out() -> None:
    losses = hrda_loss(_output(), _labels(), detail_weight=0)
    assert losses.detail is None
    assert losses.context is None
    torch.testing.assert_close(losses.total, losses.fused)


def test_accuracy_counts_ignored_pixels_as_wrong() -> None:
    logits = torch.zeros(1, 2, 2, 2)
    logits[:, 1] = 1
    labels = torch.tensor([[[1, 1], [0, 255]]])
    assert pixel_accuracy(logits, labels) == pytest.approx(0.5)
