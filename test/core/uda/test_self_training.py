"""The self-training step: three whole iterations of the reference, and what the step promises around them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from golden import Golden, argmax_agreement, golden_fixture, relative_error
from golden_weights import golden_weights
from tiny_network import TINY
from torch import Tensor, nn

from hrda_core.inference import predict_logits
from hrda_core.labels import CITYSCAPES19
from hrda_core.models import create_model
from hrda_core.trainer.optim import OptimConfig, build_optimizer
from hrda_core.uda.augment import JitterDraw, color_jitter, gaussian_blur
from hrda_core.uda.class_mix import class_mask, mix
from hrda_core.uda.feature_distance import FeatureDistanceConfig
from hrda_core.uda.masked_consistency import MicConfig
from hrda_core.uda.self_training import (
    Draws,
    ImageSpace,
    SelfTrainingConfig,
    Strong,
    draw_step,
    self_training_step,
    set_teacher_mode,
)
from hrda_core.uda.step import Batch, Networks, StepContext, StepRandom
from hrda_core.uda.supervised import LossConfig, forward_losses
from hrda_core.uda.teacher import update_teacher
from hrda_core.window_plan import CropBox

load = golden_fixture()

SPACE = ImageSpace(19, CITYSCAPES19.things, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
CONFIG = SelfTrainingConfig(threshold=0.4)

OUTPUTS, LOSSES, DISTANCE, GRADIENTS = 1e-4, 3e-4, 5e-4, 5e-3
"""Bars of the golden README; losses of the first iteration are held to 1e-5."""


def _set_dropout(network: nn.Module, rate: float) -> None:
    """Set the rates of dropout and of stochastic depth."""
    for module in network.modules():
        for name in ("drop_path", "drop_prob"):  # of our encoder and of timm's
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, rate)
        if isinstance(module, nn.Dropout2d):
            module.p = rate


def _networks(dtype: torch.dtype = torch.float32) -> Networks:
    def build() -> nn.Module:
        network = create_model("hrda_mitb0", 19, detail_crop=(64, 64))
        network.load_state_dict(golden_weights())
        _set_dropout(network, 0.0)
        return network

    imagenet = build().backbone
    with torch.no_grad():
        for parameter in imagenet.parameters():  # type: ignore[union-attr]
            if parameter.ndim >= 2:
                parameter.mul_(0.95)
    teacher = build().requires_grad_(False)
    frozen = imagenet.eval().requires_grad_(False)  # type: ignore[union-attr]
    return Networks(build().train().to(dtype), teacher.to(dtype), frozen.to(dtype))  # type: ignore[arg-type]


def _batch(expected: Golden, iteration: int, dtype: torch.dtype = torch.float32) -> Batch:
    def tensor(name: str) -> Tensor:
        return torch.from_numpy(expected[f"it{iteration}/{name}"].astype(np.float32)).to(dtype)

    trust = torch.from_numpy(expected["valid_pseudo_mask"][:, 0].astype(bool))
    return Batch(tensor("src_img"), tensor("src_label")[:, 0].long(), tensor("trg_img"), trust)


def _draws(expected: Golden, iteration: int, batch: Batch) -> Draws:
    def recorded(name: str) -> np.ndarray:
        return expected[f"it{iteration}/{name}"]

    candidates = np.unique(batch.source_labels.numpy())
    source, mixed = (CropBox(*box) for box in recorded("hr_boxes_src_then_mix").tolist())
    jitter = tuple(
        JitterDraw(tuple(int(o) for o in row[:4]), *row[4:]) for row in recorded("jitter_order4_b_c_s_h").tolist()
    )
    classes = tuple(candidates[recorded(f"classmix_choice_idx{image}")] for image in range(2))
    return Draws(source, mixed, classes, Strong(jitter, tuple(recorded("blur_sigmas").tolist())))


def test_three_iterations_equal_the_reference(load: Any) -> None:
    # In double precision: AdamW turns the round-off of gradients that are 0 in exact arithmetic (biases before a
    # BatchNorm) into whole steps, so that two single-precision runs drift apart by as much as the bars allow.
    expected = load("uda_mitb0")
    names = expected["param_names"].tolist()
    networks = _networks(torch.float64)
    optimizer = build_optimizer(networks.student, OptimConfig(lr=float(expected["lr"])))
    for iteration in range(3):
        update_teacher(networks.teacher, networks.student, iteration, CONFIG.alpha)
        batch = _batch(expected, iteration, torch.float64)
        draws = _draws(expected, iteration, batch)
        optimizer.zero_grad()
        context = StepContext(pictures=True)
        result = self_training_step(
            batch, networks, draws, SPACE, CONFIG, LossConfig(), FeatureDistanceConfig(), context
        )
        _check_log(expected, iteration, result)
        _check_pictures(expected, iteration, result.pictures)
        _check_gradients(expected, iteration, networks.student, names)
        optimizer.step()
        _check_state(expected, iteration, networks, names)


def _check_log(expected: Golden, iteration: int, result: Any) -> None:
    log = {name: float(value) for name, value in expected.starting_with(f"it{iteration}/log/").items()}
    bar = 1e-5 if iteration == 0 else LOSSES
    for ours, theirs in {
        "source.fused": "decode.loss_seg",
        "source.detail": "decode.hr.loss_seg",
        "mixed.fused": "mix.decode.loss_seg",
        "mixed.detail": "mix.decode.hr.loss_seg",
    }.items():
        assert float(result.losses[ours]) == pytest.approx(log[theirs], rel=bar), ours
    distance = float(result.losses["feature_distance"])
    assert distance == pytest.approx(log["src.loss_imnet_feat_dist"], rel=1e-5 if iteration == 0 else DISTANCE)
    for ours, theirs in {
        "source.accuracy": "decode.acc_seg",
        "source.detail_accuracy": "decode.hr.acc_seg",
        "mixed.accuracy": "mix.decode.acc_seg",
        "mixed.detail_accuracy": "mix.decode.hr.acc_seg",
    }.items():
        assert 100 * float(result.metrics[ours]) == pytest.approx(log[theirs], abs=0.05), ours


def _check_gradients(expected: Golden, iteration: int, student: nn.Module, names: list[str]) -> None:
    parameters = dict(student.named_parameters())
    norms = np.array([float(parameters[name].grad.norm()) for name in names])  # type: ignore[union-attr]
    golden = expected[f"it{iteration}/grad_norms"]
    assert relative_error(norms, golden) <= (1e-4 if iteration == 0 else GRADIENTS)
    if iteration == 0:  # before the first step nothing has been amplified: each tensor on its own
        large = golden > 1e-6
        assert np.abs(norms[large] / golden[large] - 1).max() <= 1e-3


def _check_pictures(expected: Golden, iteration: int, pictures: Any) -> None:
    def golden(name: str) -> tuple[str, np.ndarray]:
        return f"it{iteration}/{name}", expected[f"it{iteration}/{name}"]

    name, values = golden("pseudo_label")
    assert argmax_agreement(expected.sample(name, pictures["pseudo_labels"]), values) >= 0.999
    name, values = golden("mixed_img")
    assert relative_error(expected.sample(name, pictures["mixed_image"]), values) <= OUTPUTS
    _, values = golden("mixed_label")
    assert argmax_agreement(pictures["mixed_labels"], values[:, 0]) >= 0.999
    name, values = golden("mixed_weight")
    # One pixel on the other side of the threshold moves the weight by 1 / 32768.
    assert relative_error(expected.sample(name, pictures["mixed_weight"]), values) <= 1e-3
    name, values = golden("pseudo_prob_sample")
    assert relative_error(pictures["pseudo_probability"][:, ::8, ::8], values) <= (OUTPUTS if iteration == 0 else 1e-3)


def _check_state(expected: Golden, iteration: int, networks: Networks, names: list[str]) -> None:
    student, teacher = dict(networks.student.named_parameters()), dict(networks.teacher.named_parameters())  # type: ignore[union-attr]
    for own, prefix in ((student, "param_norms_after"), (teacher, "ema_param_norms")):
        norms = np.array([float(own[name].detach().norm()) for name in names])
        # Norms of zero-gradient biases move by round-off (spec section 18.24), hence the absolute part.
        np.testing.assert_allclose(norms, expected[f"it{iteration}/{prefix}"], atol=2e-4, rtol=OUTPUTS)
    for own, prefix in ((networks.student, "model_buf"), (networks.teacher, "ema_buf")):
        buffers = dict(own.named_buffers())  # type: ignore[union-attr]
        for name, values in expected.starting_with(f"it{iteration}/{prefix}/").items():
            assert relative_error(buffers[name], values) <= 1e-3, name


def test_the_teachers_logits_equal_the_reference_whatever_its_rates_of_dropout(load: Any) -> None:
    expected = load("uda_mitb0")
    networks = _networks()
    assert networks.teacher is not None
    _set_dropout(networks.teacher.train(), 0.5)  # type: ignore[arg-type]
    set_teacher_mode(networks.teacher, networks.student)
    logits = predict_logits(networks.teacher, _batch(expected, 0).target_images, "overlap")  # type: ignore[arg-type]
    assert relative_error(logits[:, :, 3::16, 5::16], expected["it0/teacher_logits_sample"]) <= OUTPUTS


def _made_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 19, (2, 4, 4), generator=generator).repeat_interleave(16, 1).repeat_interleave(16, 2)
    source, target = torch.randn(2, 2, 3, 64, 64, generator=generator)
    return Batch(source, labels, target)


def _tiny_networks() -> Networks:
    torch.manual_seed(0)
    student = create_model("hrda_lite", **TINY)
    return Networks(student.train(), copy.deepcopy(student).requires_grad_(False))


def _step(config: SelfTrainingConfig, networks: Networks, seed: int = 0) -> tuple[Draws, Any, list[Tensor]]:
    batch, seen = _made_batch(), []

    def backward(loss: Tensor) -> None:
        seen.append(loss.detach())
        loss.backward()  # type: ignore[no-untyped-call]

    context = StepContext(backward=backward, pictures=True)
    draws = draw_step(batch, networks.student, StepRandom(seed, 3), config, context)
    result = self_training_step(
        batch, networks, draws, SPACE, config, LossConfig(), FeatureDistanceConfig(weight=0), context
    )
    return draws, result, seen


def test_equal_seeds_give_equal_losses_and_gradients() -> None:
    config = SelfTrainingConfig(threshold=0.05, mic=MicConfig(block=16))
    runs = []
    for seed in (0, 0, 1):
        networks = _tiny_networks()
        torch.manual_seed(5)  # dropout
        _, result, _ = _step(config, networks, seed)
        gradients = [p.grad for p in networks.student.parameters() if p.grad is not None]
        runs.append((result.losses, gradients))
    assert all(torch.equal(runs[0][0][name], runs[1][0][name]) for name in runs[0][0])
    assert all(torch.equal(one, two) for one, two in zip(runs[0][1], runs[1][1], strict=True))
    assert runs[0][0]["mixed.fused"] != runs[2][0]["mixed.fused"]


def test_each_group_of_images_has_one_backward_pass_and_the_losses_are_their_sums() -> None:
    _, result, seen = _step(SelfTrainingConfig(threshold=0.05, mic=MicConfig(block=16)), _tiny_networks())
    sums = [sum(v for name, v in result.losses.items() if name.startswith(p)) for p in ("source", "mixed", "masked")]
    assert len(seen) == 3
    for total, expected in zip(seen, sums, strict=True):
        assert float(total) == pytest.approx(float(expected), rel=1e-6)


def test_the_teacher_gets_no_gradient_and_keeps_its_parameters() -> None:
    networks = _tiny_networks()
    assert networks.teacher is not None
    before = {name: value.clone() for name, value in networks.teacher.named_parameters()}
    _step(SelfTrainingConfig(), networks)
    assert all(p.grad is None for p in networks.teacher.parameters())
    assert all(torch.equal(before[name], value) for name, value in networks.teacher.named_parameters())


def test_the_teachers_norms_are_in_the_mode_of_the_students_and_all_else_is_in_eval_mode() -> None:
    networks = _tiny_networks()
    teacher, student = networks.teacher, networks.student
    assert teacher is not None
    resting = next(name for name, module in student.named_modules() if isinstance(module, nn.BatchNorm2d))
    student.get_submodule(resting).eval()
    set_teacher_mode(teacher.train(), student)
    norms = [name for name, module in teacher.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert [name for name in norms if not teacher.get_submodule(name).training] == [resting]
    inside = tuple(f"{name}." for name in norms)  # timm's norms hold their activation
    others = [module for name, module in teacher.named_modules() if name not in norms and not name.startswith(inside)]
    assert not any(module.training for module in others)


def test_the_step_switches_off_the_teachers_dropout() -> None:
    networks, config = _tiny_networks(), SelfTrainingConfig()
    assert networks.teacher is not None
    found = []
    for seed in range(2):
        _set_dropout(networks.teacher.train(), 0.5)
        torch.manual_seed(seed)
        found.append(_step(config, networks)[1].pictures["pseudo_probability"])
    assert torch.equal(*found)


def _forward_calls(config: SelfTrainingConfig, networks: Networks, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The images, labels and weights of each pass of the student in one step, and what the teacher said."""
    seen: list[Any] = []

    def spy(student: Any, images: Tensor, labels: Tensor, box: Any, losses: Any, weight: Any = None) -> Any:
        seen.append((images.detach().clone(), labels, weight))
        return forward_losses(student, images, labels, box, losses, weight)

    monkeypatch.setattr("hrda_core.uda.self_training.forward_losses", spy)
    return [_step(config, networks), *seen]


def test_mic_hides_patches_of_the_target_and_weighs_their_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    mic = MicConfig(block=16, ratio=0.5, weight=0.25, augment=False)
    config = SelfTrainingConfig(threshold=0.0, mic=mic)
    (draws, result, _), *_, (images, labels, weight) = _forward_calls(config, _tiny_networks(), monkeypatch)
    target = _made_batch().target_images
    assert target is not None
    visible = (draws.patches > 0.5).repeat_interleave(16, 1).repeat_interleave(16, 2)
    assert 0 < visible.float().mean() < 1
    torch.testing.assert_close(images, target * visible[:, None])
    assert torch.equal(labels, result.pictures["pseudo_labels"])
    assert result.metrics["pseudo_weight"] > 0
    torch.testing.assert_close(weight, 0.25 * result.pictures["pseudo_weight"])


def test_mixed_images_are_jittered_and_blurred_by_their_draws_and_masked_ones_by_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = SelfTrainingConfig(jitter_probability=1, blur_probability=1, mic=MicConfig(block=64, ratio=0.0))
    (draws, _, _), _, (mixed, _, _), (masked, _, _) = _forward_calls(config, _tiny_networks(), monkeypatch)
    batch = _made_batch()
    assert batch.target_images is not None
    mask = torch.stack([class_mask(*pair) for pair in zip(batch.source_labels, draws.classes, strict=True)])
    pasted = mix(mask, batch.source_images, batch.target_images)
    assert draws.strong != draws.masked_strong
    for images, plain, strong in ((mixed, pasted, draws.strong), (masked, batch.target_images, draws.masked_strong)):
        wanted = gaussian_blur(color_jitter(plain, strong.jitter, SPACE.mean, SPACE.std), strong.blur)
        torch.testing.assert_close(images, wanted)


def test_masking_with_the_source_takes_half_of_each_batch() -> None:
    networks = _tiny_networks()
    # No pixel reaches the threshold: target pixels weigh nothing, and what is left of the loss is the source's half.
    whole = SelfTrainingConfig(threshold=1.0, mic=MicConfig(block=16, augment=False))
    half = SelfTrainingConfig(threshold=1.0, mic=MicConfig(block=16, augment=False, with_source=True))
    assert float(_step(whole, networks)[1].losses["masked.fused"]) == 0
    assert float(_step(half, networks)[1].losses["masked.fused"]) > 0


def test_true_labels_weigh_1_and_pseudo_labels_the_teachers_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    mic = MicConfig(block=16, augment=False, with_source=True)
    config = SelfTrainingConfig(threshold=0.0537, mic=mic)
    (draws, result, _), _, (_, labels, mixed), (_, masked_labels, masked) = _forward_calls(
        config, _tiny_networks(), monkeypatch
    )
    batch, quality = _made_batch(), float(result.metrics["pseudo_weight"])
    assert 0 < quality < 1
    pasted = torch.stack([class_mask(*pair) for pair in zip(batch.source_labels, draws.classes, strict=True)])
    assert torch.equal(labels[pasted], batch.source_labels[pasted])
    assert (mixed[pasted] == 1).all()
    torch.testing.assert_close(mixed[~pasted], torch.full_like(mixed[~pasted], quality))
    assert torch.equal(masked_labels[0], batch.source_labels[0])
    assert (masked[0] == 1).all()
    torch.testing.assert_close(masked[1], torch.full_like(masked[1], quality))


def test_a_batch_without_jitter_and_blur_keeps_the_pixels_of_both_images() -> None:
    config = SelfTrainingConfig(jitter_probability=0, blur_probability=0)
    draws, result, _ = _step(config, _tiny_networks())
    batch = _made_batch()
    mixed, source = result.pictures["mixed_image"], result.pictures["mixed_labels"] == batch.source_labels
    assert draws.strong == Strong()
    from_source = (mixed == batch.source_images).all(1)
    from_target = (mixed == batch.target_images).all(1)
    assert (from_source | from_target).all()
    assert source[from_source].all()
