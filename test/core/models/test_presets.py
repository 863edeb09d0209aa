"""Presets by name: sizes of the papers' networks, overrides, and mistakes."""

from __future__ import annotations

import pytest
import torch
from tiny_network import TINY

import hrda_core.models
from hrda_core.errors import RecipeError
from hrda_core.inference import plan_flops
from hrda_core.models import HRDA, PRESETS, DAFormerHead, NetworkConfig, Segmenter, create_model, list_presets
from hrda_core.models.plain_vit import is_plain_vit
from hrda_core.models.preset_costs import PRESET_COSTS, TUNED_COSTS
from hrda_core.models.presets import DECODERS, TUNINGS, resolve_preset
from hrda_core.trainer.recipe import ModelConfig
from hrda_core.trainer.resting import rest_weights


def _on_meta(name: str, **overrides: object) -> HRDA | Segmenter:
    with torch.device("meta"):
        return create_model(name, **overrides)


def _parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("hrda_mitb5", 85_685_990),
        ("daformer_mitb5", 85_155_283),
        ("hrda_mitb0", 7_300_230),
        ("daformer_mitb0", 3_319_392 + 3_581_203),
    ],
)
def test_the_papers_networks_have_the_papers_parameter_counts(name: str, count: int) -> None:
    assert _parameters(_on_meta(name)) == count


@pytest.mark.parametrize("name", list_presets())
def test_listed_sizes_are_those_of_the_networks(name: str) -> None:
    model = _on_meta(name)
    assert isinstance(model, HRDA if PRESETS[name].hrda else Segmenter)
    assert _parameters(model) == PRESET_COSTS[name].parameters == PRESET_COSTS[name].trained_parameters
    assert PRESETS[name].decoder in DECODERS


def test_every_preset_has_a_listed_cost() -> None:
    assert set(PRESET_COSTS) == set(PRESETS)


@pytest.mark.parametrize("name", ["daformer_mitb0", "hrda_mitb0", "hrda_lite", "hrda_dlv2_r101", "dlv2_mitb5"])
def test_listed_costs_are_those_of_the_networks(name: str) -> None:
    """A sample; `hrda models --count true` counts all."""
    counted = plan_flops(_on_meta(name).eval(), "tiles" if PRESETS[name].hrda else "whole", 1080, 1920).giga
    assert PRESET_COSTS[name].gflop == pytest.approx(counted, abs=0.1)


def test_the_shipped_network_keeps_its_shape() -> None:
    state = _on_meta("hrda_lite").state_dict()
    assert sum(value.numel() for name, value in state.items() if "num_batches" not in name) == 3_305_670
    assert state["decode_head.head.fuse_layer.bottleneck.conv.weight"].shape == (64, 256, 3, 3)
    assert state["decode_head.scale_attention.fuse_layer.conv.weight"].shape == (64, 256, 1, 1)
    assert state["backbone.body.blocks.6.0.conv_pwl.weight"].shape == (320, 1152, 1, 1)


def test_any_preset_becomes_hrda_with_a_light_attention_decoder_of_its_kind() -> None:
    daformer = _on_meta("daformer_isa_mitb5", hrda=True, encoder="mit_b0", attention_channels=16)
    attention = daformer.decode_head.scale_attention
    assert isinstance(attention, DAFormerHead)
    assert set(dict(attention.fuse_layer.named_children())) == {"conv", "bn", "activate"}
    assert attention.conv_seg.weight.shape == (19, 16, 1, 1)
    for name in ("dlv2_r101", "segformer_mitb5", "danet_r101"):
        model = _on_meta(name, hrda=True, classwise_attention=False, attention_channels=16)
        assert type(model.decode_head.scale_attention) is type(model.decode_head.head)
        assert model.decode_head.scale_attention.stride == model.stride


def test_fixed_attention_needs_no_attention_decoder() -> None:
    model = _on_meta("hrda_mitb0", fixed_attention=0.5)
    assert isinstance(model, HRDA)
    assert model.decode_head.scale_attention is None


def test_switches_reach_the_network() -> None:
    switches = {"detail_scale": 0.5, "blur_detail": True, "overlapping_detail": False, "context_scale": 0.25}
    model = _on_meta("hrda_mitb0", detail_crop=[256, 384], **switches)
    assert {name: getattr(model, name) for name in switches} == switches
    assert model.detail_crop == (256, 384)


def test_a_cnn_decoder_gets_stride_8_by_dilation_or_by_upsampling() -> None:
    for encoder, upsample in (("resnet50c", 1), ("mit_b0", 4), ("pvt_v2_b0", 4)):
        model = _on_meta("dlv2_r101", encoder=encoder)
        assert model.stride == 8
        assert model.decode_head.upsample == upsample
        assert model.eval()(torch.empty(1, 3, 64, 96, device="meta")).shape == (1, 19, 8, 12)


def test_decoders_of_the_cnn_study_have_no_batch_norm_unless_asked() -> None:
    for name in ("deeplabv3plus_r101", "danet_r101", "isanet_r101", "upernet_r101", "danet_mitb5"):
        for norm in (False, True):
            decoder = _on_meta(name, encoder="test_resnet", decoder_norm=norm).decode_head
            assert any(isinstance(m, torch.nn.BatchNorm2d) for m in decoder.modules()) is norm


def test_normalisation_belongs_to_the_preset() -> None:
    assert resolve_preset("hrda_mitb5").mean == (123.675, 116.28, 103.53)
    assert resolve_preset("hrda_lite").std == (127.5, 127.5, 127.5)
    assert resolve_preset("hrda_lite", mean=[0, 0, 0]).mean == (0, 0, 0)


def test_a_misspelt_preset_override_decoder_or_encoder_proposes_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'hrda_lite'"):
        create_model("hrda_light")
    with pytest.raises(RecipeError, match="did you mean 'decoder_channels'"):
        create_model("hrda_lite", decoder_chanels=8)
    with pytest.raises(RecipeError, match="did you mean 'isanet'"):
        create_model("hrda_lite", decoder="isa_net")
    with pytest.raises(RecipeError, match="tf_efficientnet_lite0"):
        create_model("hrda_lite", encoder="tf_eficientnet_lite0")
    with pytest.raises(RecipeError, match="mit_b5"):
        create_model("hrda_mitb5", encoder="mit_b6")


@pytest.mark.parametrize(
    "overrides",
    [
        {"decoder_channels": 0},
        {"embed_channels": "many"},
        {"attention_channels": 1.5},
        {"output_stride": 4},
        {"fusion": "magic"},
        {"fusion": "isa", "decoder": "uper"},
        {"detail_crop": 512},
        {"detail_crop": [512, 512, 3]},
        {"mean": [0, 0]},
        {"std": ["a", "b", "c"]},
    ],
)
def test_an_impossible_value_is_refused_in_one_sentence(overrides: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=next(iter(overrides))) as caught:
        create_model("hrda_lite", **{**TINY, **overrides})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [0, 256, "19", 19.0])
def test_a_class_count_outside_1_to_255_is_refused(count: int) -> None:
    with pytest.raises(RecipeError, match=str(count)):
        create_model("hrda_lite", num_classes=count, **TINY)


def test_the_public_names_are_there_and_no_others_are() -> None:
    assert [name for name in hrda_core.models.__all__ if not hasattr(hrda_core.models, name)] == []
    assert hrda_core.models.NetworkConfig is NetworkConfig
    with pytest.raises(AttributeError, match="Unet"):
        _ = hrda_core.models.Unet


def test_attention_channels_are_the_width_and_the_embedding_of_the_attention_decoder() -> None:
    model = create_model("hrda_mitb0", num_classes=19, attention_channels=32, embed_channels=48)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    embeds = {shape[0] for name, shape in shapes.items() if name.endswith("embed_layers.0.proj.weight")}
    assert embeds == {32, 48}
    assert shapes[next(n for n in shapes if "attention" in n and n.endswith("embed_layers.0.proj.weight"))][0] == 32


@pytest.mark.parametrize(("name", "tuning"), TUNED_COSTS)
def test_listed_sizes_of_a_tuned_vit_are_those_of_the_network_and_of_what_learns(name: str, tuning: str) -> None:
    model = _on_meta(name, tuning=tuning)
    rest_weights(model, ModelConfig(name, {"tuning": tuning}))
    cost = TUNED_COSTS[name, tuning]
    assert _parameters(model) == cost.parameters
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == (
        cost.trained_parameters
    )


def test_every_preset_of_a_plain_vit_has_a_listed_cost_for_each_tuning() -> None:
    vits = [name for name in list_presets() if is_plain_vit(PRESETS[name].encoder)]
    assert set(TUNED_COSTS) == {(name, tuning) for name in vits for tuning in TUNINGS if tuning != "full"}
