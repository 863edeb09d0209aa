"""Depthwise convolutions on the CPU against those of PyTorch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hrda_core.models import create_model
from hrda_core.models.depthwise import DepthwiseConv2d, quicken_depthwise

CASES = [
    (3, 1, (7, 9)),
    (3, 6, (24, 20)),
    (3, 12, (9, 14)),
    (3, 18, (5, 40)),
    (5, 1, (3, 4)),
    (5, 2, (1, 6)),
    (7, 3, (8, 8)),
]


def _pair(kernel: int, dilation: int, channels: int = 6) -> tuple[nn.Conv2d, DepthwiseConv2d]:
    plain = nn.Conv2d(
        channels, channels, kernel, padding=dilation * (kernel // 2), dilation=dilation, groups=channels, bias=False
    ).double()
    other = copy.deepcopy(plain)
    assert DepthwiseConv2d.fits(other)
    return plain, DepthwiseConv2d.like(other)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("kernel", "dilation", "size"), CASES)
def test_masks_and_gradients_are_those_of_pytorch(
    kernel: int, dilation: int, size: tuple[int, int], channels_last: bool
) -> None:
    plain, ours = _pair(kernel, dilation)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 6, *size, dtype=torch.double).contiguous(memory_format=layout)
    weights = torch.randn(2, 6, *size, dtype=torch.double)
    found = []
    for conv in (plain, ours):
        image = x.clone().requires_grad_()
        out = conv(image)
        (out * weights).sum().backward()
        found.append((out, image.grad, conv.weight.grad))
    for expected, given in zip(*found, strict=True):
        torch.testing.assert_close(given, expected)


def test_a_frozen_convolution_and_an_input_without_gradient_get_none() -> None:
    _, ours = _pair(3, 2)
    x = torch.randn(1, 6, 5, 5, dtype=torch.double)
    ours(x).sum().backward()
    assert ours.weight.grad is not None
    frozen = ours.requires_grad_(False)
    frozen.weight.grad = None
    image = x.requires_grad_()
    frozen(image).sum().backward()
    assert frozen.weight.grad is None
    assert image.grad is not None


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
        nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, stride=2, bias=False),
        nn.Conv2d(4, 4, 3, groups=4, bias=False),
        nn.Conv2d(4, 4, 4, padding=2, groups=4, bias=False),
        nn.Conv2d(4, 4, (3, 5), padding=(1, 2), groups=4, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False, padding_mode="reflect"),
        nn.Linear(4, 4),
    ],
)
def test_other_layers_are_left_alone(conv: nn.Module) -> None:
    network = nn.Sequential(conv)
    assert quicken_depthwise(network) == 0
    assert network[0] is conv


def test_a_whole_network_keeps_names_weights_modes_and_logits() -> None:
    plain = create_model("hrda_lite", num_classes=4, detail_crop=(32, 32)).eval()
    ours = copy.deepcopy(plain)
    weights = dict(ours.named_parameters())
    assert quicken_depthwise(ours) == 15
    assert {name: id(value) for name, value in ours.named_parameters()} == {n: id(v) for n, v in weights.items()}
    assert list(ours.state_dict()) == list(plain.state_dict())
    assert not any(module.training for module in ours.modules())
    with torch.no_grad():
        image = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(ours(image), plain(image), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:FutureWarning")
def test_half_precision_and_traces_are_plain_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ours = _pair(3, 12)
    ours, x = ours.float(), torch.randn(1, 6, 5, 5)
    assert ours(x).grad_fn.name() == "_DepthwiseBackward"  # type: ignore[union-attr]
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(x).dtype == torch.bfloat16
    nodes = str(torch.jit.trace(ours, x).inlined_graph)  # type: ignore[no-untyped-call]
    assert nodes.count("aten::_convolution") == 1
