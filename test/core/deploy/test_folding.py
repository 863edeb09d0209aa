"""Fewer operations, the same function."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hrda_core.deploy.folding import folded
from hrda_core.models import create_model

# One preset of each kind of encoder and decoder; widths are cut, the algebra is the same.
KINDS = {
    "hrda_mitb0": {"decoder_channels": 32, "embed_channels": 24, "attention_channels": 16},
    "hrda_lite": {},
    "daformer_conv1_mitb5": {"encoder": "mit_b0", "decoder_channels": 32, "embed_channels": 24},
    "daformer_aspp_mitb5": {"encoder": "mit_b0", "decoder_channels": 16, "embed_channels": 16},
    "daformer_isa_mitb5": {"encoder": "mit_b0", "decoder_channels": 32, "embed_channels": 24},
    "daformer_sepaspp_bottleneck_mitb5": {"encoder": "mit_b0", "decoder_channels": 32, "embed_channels": 24},
    "segformer_mitb5": {"encoder": "mit_b0", "decoder_channels": 32},
    "upernet_mitb5": {"encoder": "mit_b0", "decoder_channels": 32},
    "deeplabv3plus_r101": {"encoder": "resnet18", "decoder_channels": 32},
    "danet_r101": {"encoder": "resnet18", "decoder_channels": 32},
    "isanet_r101": {"encoder": "resnet18", "decoder_channels": 32},
    "hrda_dlv2_r101": {"encoder": "resnet18"},
}


def _used(name: str) -> nn.Module:
    """A network whose BatchNorms are as after training: no two channels alike."""
    torch.manual_seed(0)
    model = create_model(name, 19, **KINDS[name]).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model


def _run(model: nn.Module, image: torch.Tensor) -> tuple[torch.Tensor, int]:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        return model(image), counter.get_total_flops()


@pytest.mark.parametrize("name", KINDS)
def test_logits_stay_equal_to_a_hundred_thousandth_and_no_norm_of_a_convolution_is_left(name: str) -> None:
    model = _used(name)
    image = torch.randn(1, 3, 64, 128)
    light = folded(model)  # type: ignore[arg-type]
    expected, before = _run(model, image)
    found, after = _run(light, image)
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-5
    assert after <= before
    assert not any(isinstance(module, nn.BatchNorm2d) for module in light.modules())


@pytest.mark.parametrize(
    ("name", "share"), [("hrda_mitb0", 0.93), ("segformer_mitb5", 0.9), ("daformer_conv1_mitb5", 0.97)]
)
def test_a_first_1x1_convolution_on_the_maps_own_grids_saves_operations(name: str, share: float) -> None:
    model = create_model(name, 19, **({"encoder": "mit_b0"} if "b5" in name else {})).eval()
    image = torch.zeros(1, 3, 64, 64)
    assert _run(folded(model), image)[1] <= share * _run(model, image)[1]


def test_the_given_network_is_left_as_it_is() -> None:
    model = _used("hrda_lite")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded(model)  # type: ignore[arg-type]
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
