"""Depthwise convolutions for training on a CPU, where oneDNN's own are several times slower than sums of products.

    out[c, y, x] = sum over taps (i, j) of w[c, i, j] * in[c, y + d (i - r), x + d (j - r)],        r = (k - 1) / 2

Two parts are slow there: the gradient of the weights on small maps, and dilations whose padding is wider than the
registers of the kernel. Both are computed tap by tap here, and a tap only where it meets the map: with dilation 18 on a
map of 24 x 32 cells most of them mostly do not. Figures: `benchmarks/uda_step.py`, docs/results/adaptation.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["DepthwiseConv2d", "quicken_depthwise"]

_WIDEST_DILATION = 6
"""Widest dilation of a 3x3 kernel that oneDNN's kernel for channels-last maps takes (AVX-512; others sum taps too)."""


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution whose output has the size of its input, without a bias.

    It gives what `nn.Conv2d` gives, within rounding. Where it is traced, compiled, cast to half precision or on a GPU,
    it is `nn.Conv2d`.
    """

    @staticmethod
    def fits(conv: nn.Module) -> bool:
        """Return whether a convolution is one of these: square odd kernel, stride 1, padded with zeros to its size."""
        if type(conv) is not nn.Conv2d or conv.bias is not None or conv.padding_mode != "zeros":
            return False
        kernel, dilation = conv.kernel_size[0], conv.dilation[0]
        return (
            1 < conv.groups == conv.in_channels == conv.out_channels
            and conv.kernel_size == (kernel, kernel)
            and kernel % 2 == 1
            and conv.stride == (1, 1)
            and conv.dilation == (dilation, dilation)
            and conv.padding == (dilation * (kernel // 2),) * 2
        )

    @classmethod
    def like(cls, conv: nn.Conv2d) -> DepthwiseConv2d:
        """Return one that shares the weights of a convolution that fits."""
        with torch.device("meta"):
            made = cls(
                conv.in_channels,
                conv.out_channels,
                conv.kernel_size[0],
                padding=conv.dilation[0] * (conv.kernel_size[0] // 2),
                dilation=conv.dilation[0],
                groups=conv.groups,
                bias=False,
            )
        made.weight = conv.weight
        return made.train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        plain = x.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
        if plain or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            return super().forward(x)
        out: Tensor = _Depthwise.apply(x, self.weight, self.dilation[0])
        return out


def quicken_depthwise(network: nn.Module) -> int:
    """Put `DepthwiseConv2d` in the place of each convolution that it fits, with the same weights; return how many."""
    fitting = [name for name, module in network.named_modules() if DepthwiseConv2d.fits(module)]
    for name in fitting:
        network.set_submodule(name, DepthwiseConv2d.like(network.get_submodule(name)))  # type: ignore[arg-type]
    return len(fitting)


class _Depthwise(torch.autograd.Function):
    """The convolution with its two gradients: of the input by the turned kernel, of the weights tap by tap."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
        context.save_for_backward(x, weight)
        context.dilation = dilation
        return _convolve(x, weight, dilation)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = context.saved_tensors
        of_x, of_weight = None, None
        if _is_channels_last(x):
            gradient = gradient.contiguous(memory_format=torch.channels_last)
        if context.needs_input_grad[0]:
            of_x = _convolve(gradient, weight.flip(2, 3), context.dilation)
        if context.needs_input_grad[1]:
            of_weight = torch.zeros_like(weight)
            for i, j, to, seen in _taps(x, weight.shape[2], context.dilation):
                of_weight[:, 0, i, j] = (x[seen] * gradient[to]).sum((0, 2, 3))
        return of_x, of_weight, None


def _convolve(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    size = weight.shape[2]
    middle = size // 2
    if dilation == 1 or (dilation <= _WIDEST_DILATION and _is_channels_last(x)):
        return F.conv2d(x, weight, padding=dilation * middle, dilation=dilation, groups=x.shape[1])
    out = x * weight[:, 0, middle, middle, None, None]
    for i, j, to, seen in _taps(x, size, dilation):
        if (i, j) != (middle, middle):
            out[to].addcmul_(x[seen], weight[:, 0, i, j, None, None])
    return out


_Place = tuple[Any, slice, slice]


def _taps(x: Tensor, size: int, dilation: int) -> Iterator[tuple[int, int, _Place, _Place]]:
    """Each tap that meets the map: its row and column in the kernel, the cells that it adds to, and those it sees."""
    height, width = x.shape[2:]
    for i in range(size):
        for j in range(size):
            down, right = dilation * (i - size // 2), dilation * (j - size // 2)
            if abs(down) < height and abs(right) < width:
                rows, columns = (max(0, -down), min(height, height - down)), (max(0, -right), min(width, width - right))
                to = (..., slice(*rows), slice(*columns))
                seen = (..., slice(rows[0] + down, rows[1] + down), slice(columns[0] + right, columns[1] + right))
                yield i, j, to, seen


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)
