"""The step of domain generalization: the reference's consistency, and what the sum is made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden import golden_fixture
from tiny_network import TINY
from torch import Tensor

from hrda_core.errors import RecipeError
from hrda_core.models import create_model
from hrda_core.uda.domain_generalization import (
    DgConfig,
    domain_generalization_step,
    draw_styles,
    style_consistency,
)
from hrda_core.uda.feature_distance import FeatureDistanceConfig
from hrda_core.uda.self_training import ImageSpace
from hrda_core.uda.step import Batch, Networks, StepContext, StepRandom, StepResult
from hrda_core.uda.style_hallucination import attach_styles, attached_styles
from hrda_core.uda.supervised import LossConfig

load = golden_fixture()

SPACE = ImageSpace(5, (0, 1, 2), (0.0,) * 3, (1.0,) * 3)
RANDOM = StepRandom(seed=3, iteration=5)
CONFIG = DgConfig(prototypes=4)


def _networks(hrda: bool = True, encoder: str = "mit_b0") -> Networks:
    torch.manual_seed(0)
    student, other = (create_model("hrda_lite", 5, **TINY | {"encoder": encoder}, hrda=hrda) for _ in range(2))
    for module in student.modules():
        if isinstance(getattr(module, "drop_path", None), float):
            module.drop_path = 0.0
    styles = attach_styles(student, CONFIG.prototypes)
    mean, std = torch.rand(2, *styles.proto_mean.shape, generator=torch.Generator().manual_seed(1))
    styles.set_prototypes(mean, std + 0.5)
    return Networks(student.train(), imagenet=other.backbone.eval().requires_grad_(False))


def _batch() -> Batch:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 5, (2, 1, 1), generator=generator).expand(2, 64, 64).contiguous()
    return Batch(torch.randn(2, 3, 64, 64, generator=generator), labels)


def _step(
    networks: Networks,
    config: DgConfig = CONFIG,
    distance: float = 0.005,
    context: StepContext | None = None,
    random: StepRandom = RANDOM,
) -> StepResult:
    torch.manual_seed(2)  # dropout
    return domain_generalization_step(
        _batch(),
        networks,
        random,
        SPACE,
        config,
        LossConfig(),
        FeatureDistanceConfig(distance),
        context or StepContext(),
    )


def test_consistency_equals_the_reference(load: Any) -> None:
    expected = load("dg_style")
    consistency = 10 * style_consistency(torch.from_numpy(expected["sc_logits_4"]))
    assert float(consistency) == pytest.approx(float(expected["sc_loss_lambda10"]), rel=1e-5)


def test_equal_halves_agree_and_opposite_ones_are_log_two_apart() -> None:
    logits = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    assert float(style_consistency(logits.repeat(2, 1, 1, 1))) == pytest.approx(0, abs=1e-6)
    opposite = torch.zeros(2, 5, 3, 4)
    opposite[0, 0], opposite[1, 1] = 500, 500
    opposite.requires_grad_()
    consistency = style_consistency(opposite)
    assert float(consistency.detach()) == pytest.approx(0.693147, rel=1e-5)
    consistency.backward()
    assert opposite.grad is not None
    assert torch.isfinite(opposite.grad).all()


def test_consistency_pulls_both_halves() -> None:
    logits = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    before = style_consistency(logits)
    before.backward()
    assert logits.grad is not None
    for half in (0, 1):
        moved = logits.detach().clone()
        moved[half] -= 5 * logits.grad[half]
        assert style_consistency(moved) < before.detach()


@pytest.mark.parametrize(("encoder", "hrda"), [("mit_b0", True), ("mit_b0", False), ("test_efficientnet", True)])
def test_one_backward_pass_for_the_sum_of_all_terms(encoder: str, hrda: bool) -> None:
    seen: list[float] = []

    def backward(loss: Tensor) -> None:
        seen.append(float(loss.detach()))
        loss.backward()

    networks = _networks(hrda, encoder)
    result = _step(networks, context=StepContext(backward))
    source = {"source.fused", "source.detail"} if hrda else {"source.segmentation"}
    assert set(result.losses) == source | {"feature_distance", "style_consistency"}
    assert seen == pytest.approx([sum(float(value) for value in result.losses.values())], rel=1e-6)
    assert all(float(value) > 0 for value in result.losses.values())
    assert not any(value.requires_grad for value in result.losses.values())
    gradients = [p.grad for p in networks.student.backbone.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_weights_scale_their_terms_and_zero_takes_them_out() -> None:
    ours = _step(_networks()).losses
    theirs = _step(_networks(), DgConfig(consistency_weight=5, prototypes=4), distance=0.01).losses
    assert float(theirs["style_consistency"]) == pytest.approx(float(ours["style_consistency"]) / 2, rel=1e-5)
    assert float(theirs["feature_distance"]) == pytest.approx(float(ours["feature_distance"]) * 2, rel=1e-5)
    bare = _networks()
    bare.imagenet = None
    assert set(_step(bare, DgConfig(consistency_weight=0, prototypes=4), 0).losses) == {"source.fused", "source.detail"}


def test_the_feature_distance_is_the_mean_over_both_halves() -> None:
    """With the first map as the style says, the deepest maps of both halves are compared with one ImageNet map."""
    networks = _networks()
    seen: list[Tensor] = []
    handle = networks.student.backbone.register_forward_hook(lambda *call: seen.append(call[2][3].detach()))
    result = _step(networks, distance=1.0)
    handle.remove()
    halves = torch.nn.functional.interpolate(_batch().source_images, scale_factor=0.5, mode="bilinear")
    assert networks.imagenet is not None
    frozen = networks.imagenet(halves)[3]
    thing = torch.tensor([int(labels[0, 0]) in SPACE.things for labels in _batch().source_labels])
    assert thing.any()
    apart = [(half - frozen)[thing].norm(dim=1).mean() for half in seen[0].chunk(2)]
    assert float(result.losses["feature_distance"]) == pytest.approx(float(sum(apart)) / 2, rel=1e-5)


def test_the_step_does_not_move_prototypes_and_leaves_the_encoder_plain() -> None:
    networks = _networks()
    styles = attached_styles(networks.student)
    assert styles is not None
    before = styles.proto_mean.clone()
    _step(networks)
    assert torch.equal(styles.proto_mean, before)
    assert networks.student.backbone(_batch().source_images)[0].shape[0] == 2


def test_styles_are_drawn_by_seed_iteration_image_and_pass() -> None:
    context, detail = draw_styles(RANDOM, 2, 2, CONFIG)
    assert context.shape == (2, 4)
    drawn = [*context, *detail, *draw_styles(StepRandom(3, 6), 2, 1, CONFIG)[0]]
    assert all(not torch.equal(drawn[i], drawn[j]) for i in range(len(drawn)) for j in range(i))
    # The second image of the global batch draws the same on another process, where it is the first.
    assert torch.equal(draw_styles(StepRandom(3, 5, first=1), 1, 1, CONFIG)[0][0], context[1])
    ours, same, other = (
        _step(_networks(), random=random).losses["style_consistency"] for random in (RANDOM, RANDOM, StepRandom(4, 5))
    )
    assert torch.equal(ours, same)
    assert not torch.equal(ours, other)


def test_pictures_show_the_images_in_their_own_style() -> None:
    pictures = _step(_networks(), context=StepContext(pictures=True)).pictures
    assert pictures["predicted_labels"].shape == (2, 64, 64)
    assert len(pictures["attention"]) == 2
    assert not _step(_networks()).pictures


@pytest.mark.parametrize(
    "values",
    [{"consistency_weight": -1.0}, {"prototypes": 0}, {"prototype_every": 0}, {"concentration": 0.0}],
)
def test_impossible_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="generalization"):
        DgConfig(**values)


def test_another_count_of_prototypes_is_refused() -> None:
    with pytest.raises(RecipeError, match="prototypes"):
        _step(_networks(), DgConfig(prototypes=8))
