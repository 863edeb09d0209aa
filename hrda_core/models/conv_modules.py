"""Convolution + BatchNorm + ReLU units that all decoders are built of.

Module names follow the released checkpoints (`conv`, `bn`, `depthwise_conv`, `pointwise_conv`), so that those load.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["ConvNormAct", "SeparableConvNormAct"]


class ConvNormAct(nn.Module):
    """Conv without bias, BatchNorm (eps 1e-5, momentum 0.1), ReLU. (B, Cin, H, W) -> (B, Cout, H, W), stride 1.

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
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.activate = nn.ReLU(inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W) -> (B, Cout, H, W)."""
        out: Tensor = self.activate(self.bn(self.conv(x)))
        return out


class SeparableConvNormAct(nn.Module):
    """Depth-wise 3x3 (dilated), then point-wise 1x1; norm and ReLU after each of the two."""

    def __init__(self, in_channels: int, out_channels: int, *, dilation: int) -> None:
        super().__init__()
        self.depthwise_conv = ConvNormAct(in_channels, in_channels, 3, dilation=dilation, groups=in_channels)
        self.pointwise_conv = ConvNormAct(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Cin, H, W) -> (B, Cout, H, W)."""
        out: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out
