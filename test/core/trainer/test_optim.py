"""Parameter groups and the learning-rate schedule."""

from __future__ import annotations

import pytest
from golden import golden_scalars
from tiny_network import TINY

from hrda_core.models import create_model
from hrda_core.trainer.optim import OptimConfig, build_optimizer, learning_rate_factor, set_learning_rate
from hrda_core.trainer.recipe import ModelConfig
from hrda_core.trainer.resting import rest_weights

SCHEDULES = {
    "poly10warm_adamw": OptimConfig(),
    "poly10_nowarm_minlr1e-4_adamw": OptimConfig(warmup=0, min_lr=1e-4),
    "poly10warm_sgd": OptimConfig("sgd", lr=0.0025, head_lr_factor=1),
}


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedules_equal_the_reference(name: str) -> None:
    golden, config = golden_scalars()["lr"][name], SCHEDULES[name]
    optimizer = build_optimizer(create_model("hrda_lite", **TINY), config)
    bases = {round(group["base_lr"], 9): group for group in optimizer.param_groups}
    assert sorted(bases) == golden["base_lrs"]
    for iteration, expected in golden["lr"].items():
        factor = learning_rate_factor(int(iteration), golden["max_iters"], config)
        set_learning_rate(optimizer, factor, config.min_lr)
        for base, rate in zip(golden["base_lrs"], expected, strict=True):
            assert bases[base]["lr"] == pytest.approx(rate, rel=1e-6)


def test_head_learns_ten_times_faster_and_encoder_norms_do_not_decay() -> None:
    model = create_model("hrda_lite", **TINY)
    optimizer = build_optimizer(model, OptimConfig())
    by_name = {group["name"]: group for group in optimizer.param_groups}
    assert by_name["head"]["lr"] == pytest.approx(10 * by_name["encoder"]["lr"])
    assert by_name["norm"]["weight_decay"] == 0
    assert by_name["head"]["weight_decay"] == by_name["encoder"]["weight_decay"] == 0.01
    counted = sum(len(group["params"]) for group in optimizer.param_groups)
    assert counted == len(list(model.parameters()))


def test_head_norms_stay_with_the_head() -> None:
    model = create_model("hrda_lite", **TINY)
    head = next(group for group in build_optimizer(model, OptimConfig()).param_groups if group["name"] == "head")
    expected = [p for name, p in model.named_parameters() if "head" in name]
    assert {id(p) for p in head["params"]} == {id(p) for p in expected}


def test_frozen_parameters_are_left_out() -> None:
    model = create_model("hrda_lite", **TINY)
    model.backbone.requires_grad_(False)  # type: ignore[union-attr,operator]
    assert [group["name"] for group in build_optimizer(model, OptimConfig()).param_groups] == ["head"]


@pytest.mark.parametrize("tuning", ["lora", "rein"])
def test_what_was_put_into_a_plain_vit_learns_at_the_heads_rate(tuning: str) -> None:
    overrides = {**TINY, "encoder": "test_vit", "tuning": tuning, "adapter_rank": 4, "rein_tokens": 6}
    model = create_model("hrda_lite", **overrides)
    rest_weights(model, ModelConfig("hrda_lite", overrides))
    groups = {group["name"]: group for group in build_optimizer(model, OptimConfig()).param_groups}
    assert set(groups) == {"head"}
    learning = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert {id(parameter) for parameter in groups["head"]["params"]} == learning
    assert groups["head"]["base_lr"] == pytest.approx(6e-4)


def test_the_factor_scales_every_base_rate() -> None:
    optimizer = build_optimizer(create_model("hrda_lite", **TINY), OptimConfig(lr=1.0))
    set_learning_rate(optimizer, 0.5)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.5, 5.0]
