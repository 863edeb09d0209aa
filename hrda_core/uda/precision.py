"""Keeps losses and probabilities in single precision or better, whatever precision the network computes in."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["at_least_single"]


def at_least_single(value: Tensor) -> Tensor:
    """Convert half precision to float32; float32 and float64 stay, so that a run in fp64 is fp64 throughout."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
