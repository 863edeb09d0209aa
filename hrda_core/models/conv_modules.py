"""The convolution + BatchNorm + ReLU units of all decoders, and the classifier and the resizing that they share.

Module names follow the released checkpoints (`conv`, `bn`, `depthwise_conv`, `pointwise_conv`), so that those load.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConvNormAct", "SeparableConvNormAct", "classifier", "resize"]


class ConvNormAct(nn.Module):
    """Convolution without bias, BatchNorm (eps 1e-5, momentum 0.1), ReLU: (B, Cin, H, W) -> (B, Cout, H, W), stride 1.

    With `norm=False` the convolution has a bias instead of the BatchNorm: the decoders without BN of the papers' study.
    Weights start from Kaiming normal, fan-out, ReLU gain, as every conv+norm unit of the reference does.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        dilation: int = 1,
        groups: int = 1,
        norm: bool = True,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, groups=groups, bias=not norm
        )
        self.bn = nn.BatchNorm2d(out_channels) if norm else None
        self.activate = nn.ReLU(inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Cin, H, W) to (B, Cout, H, W)."""
        x = self.conv(x)
        out: Tensor = self.activate(x if self.bn is None else self.bn(x))
        return out


class SeparableConvNormAct(nn.Module):
    """A depth-wise 3x3 (dilated) and a point-wise 1x1 convolution, with norm and ReLU after each of the two."""

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int = 1, norm: bool = True) -> None:
        super().__init__()
        self.depthwise_conv = ConvNormAct(in_channels, in_channels, 3, dilation=dilation, groups=in_channels, norm=norm)
        self.pointwise_conv = ConvNormAct(in_channels, out_channels, 1, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Cin, H, W) to (B, Cout, H, W)."""
        out: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out


def classifier(channels: int, num_classes: int) -> nn.Conv2d:
    """Build the 1x1 convolution to class logits that ends a decoder: weights normal with std 0.01, bias 0."""
    conv = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # nn.Conv2d types bias as optional
    return conv


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly with half-pixel centres: (B, C, h, w) -> (B, C, *size)."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
