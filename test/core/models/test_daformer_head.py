"""The DAFormer decoder and its fusions. Parity with the reference: test_other_heads.py (`da_*`)."""

from __future__ import annotations

import pytest
import torch

from hrda_core.errors import RecipeError
from hrda_core.models.daformer_head import FUSIONS, DAFormerHead


def test_the_papers_head_has_the_papers_parameter_count() -> None:
    assert sum(p.numel() for p in DAFormerHead((32, 64, 160, 256), 19).parameters()) == 3_581_203
    assert sum(p.numel() for p in DAFormerHead((64, 128, 320, 512), 19).parameters()) == 3_712_275


@pytest.mark.parametrize("fusion", FUSIONS)
def test_output_has_the_resolution_of_the_finest_map(fusion: str) -> None:
    head = DAFormerHead((4, 6), 3, decoder_channels=8, embed_channels=8, fusion=fusion).eval()
    with torch.inference_mode():
        assert head([torch.zeros(2, 4, 9, 13), torch.zeros(2, 6, 5, 7)]).shape == (2, 3, 9, 13)


def test_the_bottleneck_fusion_gives_context_to_the_deepest_level_alone() -> None:
    head = DAFormerHead((4, 6), 3, decoder_channels=8, embed_channels=8, fusion="sepaspp_bottleneck").eval()
    names = set(head.state_dict())
    assert "embed_layers.0.proj.weight" in names
    assert "embed_layers.1.0.bias" in names
    assert "embed_layers.1.1.aspp_modules.3.depthwise_conv.conv.weight" in names
    finest, deepest = torch.zeros(1, 4, 48, 48), torch.zeros(1, 6, 6, 6)
    with torch.inference_mode():
        still = head([finest, deepest])
        spike = finest.clone()
        spike[..., 24, 24] = 1
        assert int((head([spike, deepest]) - still).abs().amax(1).gt(0).sum()) == 1
        spike = deepest.clone()
        spike[..., 3, 3] = 1
        assert int((head([finest, spike]) - still).abs().amax(1).gt(0).sum()) > 1000


def test_an_unknown_fusion_is_refused() -> None:
    with pytest.raises(RecipeError, match="sepaspp"):
        DAFormerHead((4, 6), 3, fusion="aspp2")
