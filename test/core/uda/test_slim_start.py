"""A narrow decoder cut out of a wide one keeps what matters: exactly, where what is cut says nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hrda_core.models.conv_modules import ConvNormAct, SeparableConvNormAct
from hrda_core.models.daformer_head import DAFormerHead
from hrda_core.models.segformer_head import SegFormerHead
from hrda_core.uda.slim_start import can_cut, cut_decoder

INPUTS = (4, 6, 8, 10)


def _head(width: int, embed: int, fusion: str = "sepaspp", inputs: tuple[int, ...] = INPUTS) -> DAFormerHead:
    torch.manual_seed(width)
    return DAFormerHead(inputs, 5, decoder_channels=width, embed_channels=embed, fusion=fusion).eval()


def _features() -> list[Tensor]:
    torch.manual_seed(7)
    return [torch.randn(2, channels, 16 >> level, 24 >> level) for level, channels in enumerate(INPUTS)]


@torch.no_grad()
def _silence(head: DAFormerHead, width: int, embed: int) -> None:
    """Leave `width` and `embed` channels that speak, at places that differ from layer to layer."""
    rng = torch.Generator().manual_seed(1)
    for layer in head.embed_layers:
        assert isinstance(layer.proj, nn.Linear)
        mute = torch.randperm(layer.proj.out_features, generator=rng)[embed:]
        layer.proj.weight[mute] = 0
        layer.proj.bias[mute] = 0
    for module in head.fuse_layer.modules():
        if isinstance(module, SeparableConvNormAct):
            module.depthwise_conv.bn.weight.uniform_(0.5, 2, generator=rng)  # type: ignore[union-attr]
        if isinstance(module, ConvNormAct) and module.conv.groups == 1 and module.bn is not None:
            module.bn.weight.uniform_(0.5, 2, generator=rng)
            module.bn.running_mean.normal_(generator=rng)  # type: ignore[union-attr]
            mute = torch.randperm(module.conv.out_channels, generator=rng)[width:]
            for value in (module.bn.weight, module.bn.bias):
                value[mute] = 0


@pytest.mark.parametrize("fusion", ["sepaspp", "aspp", "conv1"])
def test_channels_that_say_nothing_can_be_cut_without_a_trace(fusion: str) -> None:
    wide, narrow = _head(12, 10, fusion), _head(5, 4, fusion)
    _silence(wide, 5, 4)
    before = {name: value.clone() for name, value in wide.state_dict().items()}
    assert can_cut(narrow, wide)
    cut_decoder(narrow, wide)
    with torch.no_grad():
        torch.testing.assert_close(narrow(_features()), wide(_features()))
    assert all(torch.equal(before[name], value) for name, value in wide.state_dict().items())


def test_a_decoder_of_the_same_width_is_a_copy() -> None:
    wide, narrow = _head(6, 4), _head(6, 4)
    cut_decoder(narrow, wide)
    theirs = wide.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in narrow.state_dict().items())


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (_head(12, 4), _head(6, 4)),
        (_head(6, 8), _head(6, 4)),
        (_head(4, 4, "conv1"), _head(6, 4, "aspp")),
        (_head(4, 4, "aspp"), _head(6, 4, "sepaspp")),
        (_head(4, 4, "isa"), _head(6, 4, "isa")),
        (_head(4, 4, "sepaspp_bottleneck"), _head(6, 4, "sepaspp_bottleneck")),
        (_head(4, 4, inputs=(4, 6, 8, 12)), _head(6, 4)),
        (SegFormerHead(INPUTS, 5, decoder_channels=4), _head(6, 4)),
    ],
)
def test_decoders_of_another_kind_or_wider_ones_are_not_cut(narrow: nn.Module, wide: nn.Module) -> None:
    assert not can_cut(narrow, wide)
