"""The memory format of the networks on a CPU."""

from __future__ import annotations

import pytest
import torch

from hrda_core.models import create_model
from hrda_core.models.depthwise import DepthwiseConv2d
from hrda_core.trainer.layout import lay_out


@pytest.mark.parametrize(
    ("preset", "asked", "expected"),
    [
        ("hrda_lite", None, True),
        ("hrda_lite", False, False),
        ("hrda_mitb0", None, False),
        ("hrda_mitb0", True, True),
    ],
)
def test_cnns_are_channels_last_with_quick_depthwise_convolutions(
    preset: str, asked: bool | None, expected: bool
) -> None:
    network = create_model(preset, num_classes=3)
    lay_out(network, network.backbone, asked)
    found = [parameter for parameter in network.parameters() if parameter.ndim == 4 and min(parameter.shape) > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) is expected for weight in found)
    assert any(isinstance(module, DepthwiseConv2d) for module in network.modules()) is expected


def test_a_network_on_another_device_is_as_it_was() -> None:
    with torch.device("meta"):
        network = create_model("hrda_lite", num_classes=3)
    lay_out(network, network.backbone, None)
    assert not any(isinstance(module, DepthwiseConv2d) for module in network.modules())
