"""Losses and probabilities are single precision at least, whatever the network computes in."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["at_least_single"]


def at_least_single(value: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 as they are, so that a run in fp64 is fp64 throughout."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
