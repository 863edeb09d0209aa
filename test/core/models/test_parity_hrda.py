"""HRDA with MiT-B0 against the reference: fusion over given detail crops, and the training forward with its gradients.

The window plans that choose the crops have their own parity tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from golden import Golden, argmax_agreement, golden, golden_fixture, relative_error
from golden_inference import ARRAYS, golden_inference, golden_network
from torch import Tensor

from hrda_core.models.hrda import TrainOutput
from hrda_core.uda.losses import HrdaLosses, hrda_loss, pixel_accuracy
from hrda_core.window_plan import CropBox

load = golden_fixture()
Load = Callable[[str], Golden]

ROUND_OFF = 1e-6
"""Gradient norms below this are zero in exact arithmetic (biases before batch statistics)."""


# Inference: context, given detail crops, fusion


@pytest.fixture(scope="module")
def inference() -> dict[str, Tensor]:
    """See `golden_inference`."""
    return golden_inference()


def test_context_attention_detail_and_fusion_equal_the_reference(load: Load, inference: dict[str, Tensor]) -> None:
    expected = load("hrda_mitb0_inference")
    for array, own in ARRAYS.items():
        assert relative_error(expected.sample(array, inference[own]), expected[array]) <= 1e-4, array


def test_upsampled_classes_equal_the_reference(load: Load, inference: dict[str, Tensor]) -> None:
    expected = load("hrda_mitb0_inference")
    size = expected["image"].shape[2:]
    upsampled = F.interpolate(inference["fused"], size=size, mode="bilinear", align_corners=False)
    assert relative_error(upsampled[..., 3::16, 5::16], expected["fused_up_sample"]) <= 1e-4
    assert argmax_agreement(expected.sample("fused_argmax", upsampled.argmax(1)), expected["fused_argmax"]) >= 0.999


# Training forward and backward


@dataclass(frozen=True)
class _Step:
    """One forward and backward pass on the golden training batch."""

    output: TrainOutput
    losses: HrdaLosses
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
    labels: Tensor
    weight: Tensor


def _step(name: str, *, train: bool) -> _Step:
    batch = golden(name)
    network = golden_network().train(train)
    labels = torch.from_numpy(batch["label"][:, 0]).long()
    output = network.forward_train(torch.from_numpy(batch["image"]).float(), CropBox(*batch["box"].tolist()))
    losses = hrda_loss(output, labels)
    losses.total.backward()
    gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    weight = torch.from_numpy(batch["seg_weight"]).float()
    return _Step(output, losses, gradients, dict(network.named_buffers()), labels, weight)


@pytest.fixture(scope="module")
def bn_eval() -> _Step:
    return _step("hrda_mitb0_train_bneval", train=False)


@pytest.fixture(scope="module")
def bn_train() -> _Step:
    return _step("hrda_mitb0_train_bntrain", train=True)


def test_training_outputs_equal_the_reference(load: Load, bn_eval: _Step, bn_train: _Step) -> None:
    for step, name in ((bn_eval, "hrda_mitb0_train_bneval"), (bn_train, "hrda_mitb0_train_bntrain")):
        expected, output = load(name), step.output
        assert relative_error(expected.sample("fused", output.fused), expected["fused"]) <= 1e-4
        assert relative_error(output.context, expected["lr_seg_returned"]) <= 1e-4
        assert relative_error(output.detail, expected["hr_seg"]) <= 1e-4
        assert relative_error(output.context_features[3][:, :16], expected["lr_feat4"]) <= 1e-4


def test_losses_and_accuracies_equal_the_reference(load: Load, bn_eval: _Step, bn_train: _Step) -> None:
    for step, name in ((bn_eval, "hrda_mitb0_train_bneval"), (bn_train, "hrda_mitb0_train_bntrain")):
        expected = load(name)
        _assert_losses(step.losses, expected.starting_with("log/"))
        assert float(step.losses.total.detach()) == pytest.approx(float(expected["total_loss"]), rel=1e-5)
        # One pixel of 2 x 128 x 192 is 0.002 %, of the detail crop 0.008 %.
        accuracy = 100 * pixel_accuracy(step.output.fused, step.labels)
        assert accuracy == pytest.approx(float(expected["log/decode.acc_seg"]), abs=0.01)
        y1, y2, x1, x2 = expected["box"].tolist()
        inside = step.labels[:, y1:y2, x1:x2]
        accuracy = 100 * pixel_accuracy(step.output.detail, inside)
        assert accuracy == pytest.approx(float(expected["log/decode.hr.acc_seg"]), abs=0.02)


def test_losses_with_a_weight_map_equal_the_reference(load: Load, bn_eval: _Step) -> None:
    expected = load("hrda_mitb0_train_bneval").starting_with("wlog/")
    _assert_losses(hrda_loss(bn_eval.output, bn_eval.labels, bn_eval.weight), expected)


def test_losses_with_a_context_term_equal_the_reference(load: Load, bn_eval: _Step) -> None:
    expected = load("hrda_mitb0_train_bneval").starting_with("lrw_log/")
    losses = hrda_loss(bn_eval.output, bn_eval.labels, context_weight=0.1)
    assert losses.context is not None
    assert float(losses.context.detach()) == pytest.approx(float(expected["decode.lr.loss_seg"]), rel=1e-5)
    _assert_losses(losses, expected)


def test_gradients_with_running_statistics_equal_the_reference(load: Load, bn_eval: _Step) -> None:
    _assert_gradients(bn_eval.gradients, load("hrda_mitb0_train_bneval"), bar=1e-3)


def test_gradients_with_batch_statistics_equal_the_reference(load: Load, bn_train: _Step) -> None:
    _assert_gradients(bn_train.gradients, load("hrda_mitb0_train_bntrain"), bar=5e-3)


def test_batch_statistics_are_updated_by_context_and_detail_in_turn(load: Load, bn_train: _Step) -> None:
    for name, buffer in load("hrda_mitb0_train_bntrain").starting_with("buf/").items():
        assert relative_error(bn_train.buffers[name], buffer) <= 1e-4, name
    assert int(bn_train.buffers["decode_head.head.fuse_layer.bottleneck.bn.num_batches_tracked"]) == 2
    assert int(bn_train.buffers["decode_head.scale_attention.fuse_layer.bn.num_batches_tracked"]) == 1


def _assert_losses(losses: HrdaLosses, expected: dict[str, object]) -> None:
    assert losses.detail is not None
    own = {"decode.loss_seg": losses.fused, "decode.hr.loss_seg": losses.detail, "loss": losses.total}
    for name, loss in own.items():
        assert float(loss.detach()) == pytest.approx(float(expected[name]), rel=1e-5), name  # type: ignore[arg-type]


def _assert_gradients(gradients: dict[str, Tensor], expected: Golden, *, bar: float) -> None:
    norms = dict(zip(expected["grad_names"].tolist(), expected["grad_norms"].tolist(), strict=True))
    assert gradients.keys() == norms.keys()
    for name, norm in norms.items():
        own = float(gradients[name].double().norm())
        if norm < ROUND_OFF:
            assert own < 10 * ROUND_OFF, name
        else:
            assert own == pytest.approx(norm, rel=bar), name
    for name, gradient in expected.starting_with("grad/").items():
        if norms[name] >= ROUND_OFF:
            assert relative_error(gradients[name], gradient) <= bar, name
