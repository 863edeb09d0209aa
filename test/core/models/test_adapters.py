"""LoRA and Rein in a plain ViT: their formulas, their start, copies and graphs, in every family of plain ViTs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from torch import nn

from hrda_core.deploy.onnx_writing import trace
from hrda_core.models import plain_vit
from hrda_core.models.adapters import LoRALinear, Rein, describe_adapters, merge_lora
from hrda_core.models.plain_vit import PlainViT

FAMILIES = {
    "DINOv2": "vit_base_patch14_dinov2",
    "DINOv2 with registers": "vit_base_patch14_reg4_dinov2",
    "DINOv3": "vit_base_patch16_dinov3",
    "EVA-02, one projection": "eva02_small_patch14_224",
    "EVA-02, three projections": "eva02_large_patch14_224",
    "SigLIP": "vit_so400m_patch14_siglip_224",
    "CLIP": "vit_base_patch16_clip_224",
    "Perception Encoder": "vit_pe_core_tiny_patch16_384",
}


@pytest.fixture
def _four_narrow_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let timm build every network with four blocks of 48 channels."""
    create = timm.create_model

    def small(name: str, **options: Any) -> nn.Module:
        return create(name, **{**options, "depth": 4, "embed_dim": 48, "num_heads": 3})

    plain_vit._anatomy.cache_clear()
    monkeypatch.setattr(timm, "create_model", small)
    yield
    plain_vit._anatomy.cache_clear()


def _moved(encoder: PlainViT) -> PlainViT:
    """With adapters that do something."""
    for name, parameter in encoder.named_parameters():
        if name.endswith(".lora_b") or "of_features" in name:
            nn.init.normal_(parameter, std=0.1)
    return encoder.eval()


@pytest.mark.usefixtures("_four_narrow_blocks")
@pytest.mark.parametrize("tuning", ["lora", "rein"])
@pytest.mark.parametrize("name", FAMILIES.values(), ids=FAMILIES)
def test_every_family_begins_as_its_encoder_and_becomes_a_graph_for_any_size(name: str, tuning: str) -> None:
    torch.manual_seed(0)
    encoder, plain = PlainViT(name, tuning, rank=4, tokens=6).eval(), PlainViT(name).eval()
    for key, parameter in encoder.named_parameters():
        if "gamma" in key:  # else the blocks hardly count
            nn.init.ones_(parameter)
    plain.load_state_dict({key: value for key, value in encoder.state_dict().items() if key in plain.state_dict()})
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(encoder(image), plain(image), strict=True):
            torch.testing.assert_close(ours, theirs)
        changed = _moved(encoder)(image)[-1]
        assert (changed - plain(image)[-1]).abs().max() > 1e-3
    names = ["a", "b", "c", "d"]
    graph = trace(encoder, {"image": image}, names, opset=17, any_size={"image": {2: "height", 3: "width"}})
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    other = torch.randn(2, 3, 96, 64)
    with torch.no_grad():
        for found, expected in zip(session.run(names, {"image": other.numpy()}), encoder(other), strict=True):
            np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-3 * float(expected.abs().max()))


def test_rein_is_its_formula() -> None:
    torch.manual_seed(0)
    rein = Rein(blocks=3, width=8, tokens=5, rank=2)
    nn.init.normal_(rein.of_features.weight)
    features = torch.randn(2, 7, 8)
    tokens = rein.token_a[1] @ rein.token_b[1]
    for f, found in zip(features, rein(features, 1), strict=True):
        s = torch.softmax(f @ tokens.T / 8**0.5, dim=1)
        delta = s[:, 1:] @ (tokens[1:] @ rein.of_tokens.weight.T + rein.of_tokens.bias)
        expected = f + (delta + f) @ rein.of_features.weight.T + rein.of_features.bias
        torch.testing.assert_close(found, expected)


def test_each_block_learns_tokens_of_its_own() -> None:
    torch.manual_seed(0)
    encoder = _moved(PlainViT("test_vit", "rein", rank=4, tokens=6))
    encoder(torch.randn(1, 3, 64, 64))[-1].sum().backward()
    rein = encoder.rein
    assert rein is not None
    for tokens in (rein.token_a, rein.token_b):
        assert tokens.grad is not None
        assert tokens.shape[0] == 6  # blocks
        assert tokens.grad.flatten(1).abs().sum(1).gt(0).all()


def test_merged_lora_is_the_same_function_and_dropped_lora_the_encoder() -> None:
    torch.manual_seed(0)
    plain = PlainViT("test_vit").eval()
    encoder = _moved(PlainViT("test_vit", "lora", rank=4))
    encoder.load_state_dict(plain.state_dict(), strict=False)
    merged, dropped = copy.deepcopy(encoder), copy.deepcopy(encoder)
    merge_lora(merged)
    dropped.drop_adapters()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for one, two in zip(merged(image), encoder(image), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
        assert torch.equal(dropped(image)[2], plain(image)[2])
    assert not any(isinstance(module, LoRALinear) for module in merged.modules())
    assert merged.state_dict().keys() == dropped.state_dict().keys() == plain.state_dict().keys()


def test_a_copy_has_tokens_of_its_own_and_can_lose_them() -> None:
    encoder = PlainViT("test_vit", "rein", rank=4, tokens=6).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = encoder(image)[2]
        other = _moved(copy.deepcopy(encoder))
        assert not torch.equal(other(image)[2], before)
        assert torch.equal(encoder(image)[2], before)
        other.drop_adapters()
        assert torch.equal(other(image)[2], before)
    assert describe_adapters({f"backbone.{name}": value for name, value in other.state_dict().items()}) == ""
