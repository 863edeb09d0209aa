"""Convolutions of TensorFlow's padding as one operation of the graph, for images on the grid of the encoder's stride.

EfficientNets from TensorFlow (`tf_...` in timm) pad as TensorFlow's SAME rule does, by the size of the map that comes
in, and on the right and at the bottom by one pixel more than on the left and at the top. PyTorch's convolutions pad
both sides alike, so timm pads in a step of its own. In a graph for any size that step computes sizes and copies the
map, which costs ONNX Runtime its blocked layout before and after. Where every side of a map is a multiple of the
convolution's stride the padding is always the same, and ONNX's Conv takes it as it is. Needs torch and timm.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

__all__ = ["pad_inside_convolutions"]

Pads = tuple[int, int, int, int]
"""Pixels of padding: left, right, top, bottom."""


def pad_inside_convolutions(model: nn.Module) -> None:
    """Replace, in place, convolutions that pad by the size of their map by such with the padding of maps of even size.

    Afterwards the encoder is right for images whose sides are multiples of its stride, and for no others.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Conv2dSame):
                setattr(module, name, _PaddedConv2d(child))


class _PaddedConv2d(nn.Module):
    """A convolution with padding of its own on each side."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self._stride, self._dilation, self._groups = conv.stride, conv.dilation, conv.groups
        # SAME gives ceil(side / stride) pixels; where the stride divides the side this is what is missing.
        down, across = (
            max(0, (size - 1) * dilation + 1 - stride)
            for size, dilation, stride in zip(conv.kernel_size, conv.dilation, conv.stride, strict=True)
        )
        self._pads: Pads = (across // 2, across - across // 2, down // 2, down - down // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        out: Tensor = _PaddedConv.apply(
            x, self.weight, self.bias, self._pads, self._stride, self._dilation, self._groups
        )
        return out


class _PaddedConv(torch.autograd.Function):
    """What PyTorch computes in two steps, and the one operation that the tracing exporter writes for it."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        pads: Pads,
        stride: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Tensor:
        """Pad, then convolve."""
        return F.conv2d(F.pad(x, pads), weight, bias, stride, 0, dilation, groups)

    @staticmethod
    def symbolic(
        g: Any,
        x: Any,
        weight: Any,
        bias: Any,
        pads: Pads,
        stride: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Any:
        """Write one Conv; ONNX's order of paddings is top, left, bottom, right."""
        left, right, top, bottom = pads
        channels, *kernel = weight.type().sizes()[:1] + weight.type().sizes()[2:]
        out = g.op(
            "Conv",
            *(value for value in (x, weight, bias) if value is not None),
            kernel_shape_i=kernel,
            pads_i=[top, left, bottom, right],
            strides_i=list(stride),
            dilations_i=list(dilation),
            group_i=groups,
        )
        if (known := x.type().sizes()) is not None:
            out.setType(x.type().with_sizes([known[0], channels, None, None]))
        return out
