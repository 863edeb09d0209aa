"""BatchNorm over all processes on any device, so that two processes normalise as one with the whole batch does.

PyTorch's own SyncBatchNorm runs on accelerators only, so no test on a CPU could verify it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.uda.precision import at_least_single

__all__ = ["SyncBatchNorm2d", "synchronise_norms"]


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d (with the activation that timm's layers hold) whose batch is that of all processes.

    All processes must see batches of equal shape. Parameters and buffers keep their names.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.drop = getattr(norm, "drop", nn.Identity())
        self.act = getattr(norm, "act", nn.Identity())
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        normalised = self._synchronised(x) if self.training else super().forward(x)
        out: Tensor = self.act(self.drop(normalised))
        return out

    def _synchronised(self, x: Tensor) -> Tensor:
        mean, var = _of_all_processes(x.detach())
        self._move_statistics(mean, var, dist.get_world_size() * x.numel() // x.shape[1])
        normalised: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, var, self.eps)
        return normalised

    def _move_statistics(self, mean: Tensor, var: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        unbiased = var * (count / max(count - 1, 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


def synchronise_norms(network: nn.Module) -> nn.Module:
    """Replace every BatchNorm2d below `network` and return `network`."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm2d) and child.affine:
            setattr(network, name, SyncBatchNorm2d(child))
        else:
            synchronise_norms(child)
    return network


class _Normalise(torch.autograd.Function):
    """Normalises by statistics of all processes, which depend on the input of each: one exchange on the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        inverse = torch.rsqrt(var + ctx.eps)
        # Of fixed statistics: grad * weight * inverse, and the sums of grad * normalised and of grad.
        direct, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, var, mean, inverse, False, ctx.eps, (True, True, True)
        )
        sums = torch.stack([of_weight, of_bias])
        dist.all_reduce(sums)
        by_normalised, plain = sums * (weight * inverse) / (dist.get_world_size() * x.numel() // x.shape[1])
        slope = by_normalised * inverse
        offset = plain - mean * slope
        single = at_least_single(x)  # terms that nearly cancel
        of_x = (direct - (single * _across(slope, single) + _across(offset, single))).to(x.dtype)
        return of_x, of_weight, of_bias, None, None, None


def _of_all_processes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C) over all images of all processes, with one exchange."""
    x = at_least_single(x)
    mean = x.mean(dim=(0, 2, 3))
    var = (x - _across(mean, x)).square_().mean(dim=(0, 2, 3))
    # Both of each process, not their sums: sums of squares lose the digits that the variance is made of.
    own = torch.stack([mean, var])
    of_each = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(of_each, own)
    means, variances = torch.stack(of_each, dim=1)
    mean = means.mean(0)
    return mean, (variances + (means - mean).square()).mean(0)


def _across(of_channels: Tensor, x: Tensor) -> Tensor:
    """(C) as (1, C, 1, 1) in the type of `x`."""
    return of_channels.to(x.dtype).view(1, -1, 1, 1)
