"""One tester for every network: each preset, alone and as HRDA, with the encoder and widths made small."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from hrda_core.inference import predict_logits
from hrda_core.models import HRDA, PRESETS, NetworkConfig, Segmenter, build_network, list_presets, resolve_preset
from hrda_core.models.class_bias import raised, with_bias
from hrda_core.window_plan import CropBox

CLASSES = 5
SMALL: dict[str, Any] = {
    "decoder_channels": 8,
    "embed_channels": 8,
    "attention_channels": 8,
    "detail_crop": (32, 32),
}
ENCODERS = [
    "test_efficientnet",
    "test_resnet",
    "test_convnext",
    "pvt_v2_b0",
    "swin_tiny_patch4_window7_224",
    "test_vit",
]
"""One of each family that users put under HRDA."""

WITHOUT_GRADIENT = {
    "conv_seg": "SegFormer: kept for the checkpoints' sake, never called",
}
ZERO_GRADIENT = {
    "global_relation.key_project": "ISANet in HRDA: crops of one 8x8 cell have one place to attend to",
    "global_relation.query_project": "as above",
}


def _small_encoder(name: str) -> str:
    return "mit_b0" if name.startswith("mit") else "test_resnet" if name.startswith("resnet") else "test_efficientnet"


def _networks() -> dict[str, NetworkConfig]:
    """Name -> small configuration; presets that differ in size only are one network here."""
    names: dict[NetworkConfig, str] = {}
    for name in list_presets():
        for hrda in {PRESETS[name].hrda, True}:
            small = resolve_preset(name, **SMALL, encoder=_small_encoder(PRESETS[name].encoder), hrda=hrda)
            names.setdefault(small, name if hrda == PRESETS[name].hrda else f"hrda({name})")
    for encoder in ENCODERS:
        small = resolve_preset("hrda_lite", **SMALL, encoder=encoder)
        names.setdefault(small, f"hrda_lite({encoder})")
    return {name: config for config, name in names.items()}


NETWORKS = _networks()


def _image(batch: int = 2, height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> HRDA | Segmenter:
    torch.manual_seed(0)
    return build_network(NETWORKS[request.param], CLASSES)


def test_forward_gives_logits_of_its_stride_for_each_image_of_a_batch(network: HRDA | Segmenter) -> None:
    image, network = _image(), network.eval()
    with torch.inference_mode():
        logits = network(image)
        alone = network(image[1:])
    assert logits.shape == (2, CLASSES, 64 // network.stride, 64 // network.stride)
    torch.testing.assert_close(logits[1:], alone, rtol=1e-4, atol=1e-5)


def test_any_image_size_works(network: HRDA | Segmenter) -> None:
    logits = predict_logits(network.eval(), _image(1, 37, 69), "tiles" if isinstance(network, HRDA) else "whole")
    assert logits.shape == (1, CLASSES, 37, 69)
    assert logits.isfinite().all()


def test_weights_survive_saving_and_loading(network: HRDA | Segmenter) -> None:
    other = copy.deepcopy(network).eval()
    for value in other.state_dict().values():
        value.zero_()
    other.load_state_dict(load(save(network.state_dict())))
    image = _image(1)
    with torch.inference_mode():
        torch.testing.assert_close(other(image), network.eval()(image), rtol=0, atol=0)


def test_every_parameter_learns(network: HRDA | Segmenter) -> None:
    """Last of the module's tests: it changes weights and BatchNorm statistics."""
    network.train().zero_grad()
    torch.manual_seed(2)
    for name, value in network.named_parameters():
        # Gates that start closed: DANet's gamma, the last norm of timm's residual blocks.
        if value.ndim == 1 and name.endswith(("gamma", "weight")) and not value.any():
            torch.nn.init.ones_(value)
    if isinstance(network, HRDA):
        output = network.forward_train(_image(), CropBox(16, 48, 32, 64))
        logits = [output.fused, output.detail]
    else:
        logits = [network(_image())]
    sum(((x - torch.randn_like(x)) ** 2).mean() for x in logits).backward()
    parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
    frozen = set(dict(network.named_parameters())) - set(parameters)
    assert not [name for name in frozen if not any(key in name for key in WITHOUT_GRADIENT)]
    assert not [name for name, value in parameters.items() if value.grad is None or not value.grad.isfinite().all()]
    still = [name for name, value in parameters.items() if not value.grad.any()]
    assert not [name for name in still if not any(key in name for key in ZERO_GRADIENT)]


def test_a_class_bias_raises_the_logits_of_every_network_by_just_that(network: HRDA | Segmenter) -> None:
    bias = (0.0, 0.5, 1.0, 0.25, 2.0)
    network.eval()
    plan = "tiles" if isinstance(network, HRDA) else "whole"
    with torch.no_grad():
        before = predict_logits(network, _image(1), plan)
        with raised(network, bias):
            during = predict_logits(network, _image(1), plan)
        after = predict_logits(network, _image(1), plan)
        kept = copy.deepcopy(network.state_dict())
        weights = with_bias(network, kept, bias)
        filled = copy.deepcopy(network)
        filled.load_state_dict(weights)
        by_weights = predict_logits(filled, _image(1), plan)
    torch.testing.assert_close(during - before, torch.tensor(bias)[:, None, None].expand_as(before[0])[None])
    torch.testing.assert_close(by_weights, during)
    assert torch.equal(after, before)
    assert sum(not torch.equal(value, kept[name]) for name, value in weights.items()) == 1
