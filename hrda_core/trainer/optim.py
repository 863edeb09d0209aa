"""AdamW or SGD with the paper's parameter groups, and linear warm-up times polynomial decay of the learning rate.

The groups and rates are those of paper section 4.1 and spec section 11. The warm-up is the third of the paper's
training strategies, beside Rare Class Sampling and the feature distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hrda_core.errors import RecipeError

__all__ = ["OptimConfig", "build_optimizer", "learning_rate_factor", "set_learning_rate"]

_WARMUP_RATIO = 1e-6


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule.

    Attributes:
        kind: `adamw`; `sgd` (momentum 0.9) for the DeepLabV2 baselines.
        lr: learning rate of the encoder (6e-5 in the paper).
        head_lr_factor: factor on the learning rate of everything outside the encoder (10 in the paper).
        weight_decay: 0.01 in the paper; encoder norms do not decay, decoder norms do.
        warmup: iterations of linear warm-up (1500 in the paper).
        power: exponent of the polynomial decay (1 in the paper).
        min_lr: learning rate at which the decay ends, for every group (0 in the paper).
    """

    kind: str = "adamw"
    lr: float = 6e-5
    head_lr_factor: float = 10.0
    weight_decay: float = 0.01
    warmup: int = 1500
    power: float = 1.0
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("adamw", "sgd"):
            raise RecipeError(f"optim.kind is 'adamw' or 'sgd', not '{self.kind}'")
        if self.lr < 0 or self.warmup < 0 or self.min_lr < 0 or self.head_lr_factor <= 0:
            raise RecipeError("optim: lr, warmup and min_lr must be 0 or more, head_lr_factor above 0")


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """Build three groups: encoder, encoder norms (no decay), head (lr times `head_lr_factor`).

    A parameter belongs to the head if its name contains `head`, else to the norms if it is part of a normalisation
    layer, as the substring rules of the reference sort them. What was put into an encoder without being part of it
    (`PlainViT.added`) starts as the head does, without knowledge to lose, and belongs to it. Frozen parameters are in
    no group.
    """
    added = {f"backbone.{name}" for name in getattr(getattr(model, "backbone", None), "added", ())}
    norms = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._BatchNorm)
        for name, _ in module.named_parameters(recurse=False)
    }
    groups: dict[str, list[nn.Parameter]] = {"encoder": [], "norm": [], "head": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            of_head = "head" in name or name in added
            groups["head" if of_head else "norm" if name in norms else "encoder"].append(parameter)
    settings = {
        "encoder": {"lr": config.lr, "weight_decay": config.weight_decay},
        "norm": {"lr": config.lr, "weight_decay": 0.0},
        "head": {"lr": config.lr * config.head_lr_factor, "weight_decay": config.weight_decay},
    }
    rows: list[dict[str, Any]] = [
        {"params": parameters, "name": name, "base_lr": settings[name]["lr"], **settings[name]}
        for name, parameters in groups.items()
        if parameters
    ]
    return torch.optim.SGD(rows, momentum=0.9) if config.kind == "sgd" else torch.optim.AdamW(rows)


def learning_rate_factor(iteration: int, iterations: int, config: OptimConfig) -> float:
    """Return the factor on the base rate before step `iteration` (from 0): polynomial decay, times warm-up at first."""
    factor = float((1 - iteration / iterations) ** config.power)
    if iteration < config.warmup:
        factor *= 1 - (1 - iteration / config.warmup) * (1 - _WARMUP_RATIO)
    return factor


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float, min_lr: float = 0.0) -> None:
    """Set each group to its base rate times `factor`; the decay runs from the base rate to `min_lr`."""
    for group in optimizer.param_groups:
        group["lr"] = (group["base_lr"] - min_lr) * factor + min_lr
