"""BatchNorm over all processes on any device, so that two processes normalise as one with the whole batch does.

PyTorch's own SyncBatchNorm runs on accelerators only, so no test on a CPU could verify it.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
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
        processes = dist.get_world_size()
        var, mean = torch.var_mean(at_least_single(x), dim=(0, 2, 3), unbiased=False)
        # Two small exchanges, not one of sums of squares: those lose the digits that the variance is made of.
        whole_mean = _sum(mean) / processes
        whole_var = _sum(var + (mean - whole_mean) ** 2) / processes
        self._move_statistics(whole_mean.detach(), whole_var.detach(), processes * x.numel() // x.shape[1])
        scale = self.weight * torch.rsqrt(whole_var + self.eps)
        shift = self.bias - whole_mean * scale
        return x * scale.to(x.dtype).view(1, -1, 1, 1) + shift.to(x.dtype).view(1, -1, 1, 1)

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


def _sum(value: Tensor) -> Tensor:
    from torch.distributed.nn.functional import all_reduce

    total: Tensor = all_reduce(value)  # type: ignore[no-untyped-call]
    return total
