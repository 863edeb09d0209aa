"""Exponential moving average of the student's weights (paper section 3.1, eq. for the EMA teacher; spec section 7)."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["ema_decay", "update_teacher"]


def ema_decay(iteration: int, alpha: float) -> float:
    """Return the decay before iteration t: min(1 - 1 / (t + 1), alpha).

    It is 0 at t = 0, where the teacher becomes the student.
    """
    return min(1 - 1 / (iteration + 1), alpha)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, iteration: int, alpha: float) -> None:
    """Set teacher = a * teacher + (1 - a) * student for parameters; buffers (BatchNorm statistics) are not averaged.

    Parameters that both networks hold, because they rest, are left as they are.
    """
    decay = ema_decay(iteration, alpha)
    for ours, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        if ours is not theirs:
            ours.lerp_(theirs, 1 - decay)
