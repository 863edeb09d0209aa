"""The DAFormer decoder against the reference's golden vectors, and its variants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hrda_core.models.daformer_head import DAFormerHead

CHANNELS = (32, 64, 160, 256)


@pytest.mark.parametrize("fusion", ["sepaspp", "aspp", "conv1"])
def test_logits_equal_the_reference(shared_dir: Path, fusion: str) -> None:
    from safetensors.torch import load_file

    golden = np.load(shared_dir / "golden" / "heads.npz")
    prefix = f"da_{fusion}/"
    stored = load_file(shared_dir / "golden" / "heads_weights.safetensors")
    weights = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
    head = DAFormerHead(CHANNELS, 19, decoder_channels=32, embed_channels=24, fusion=fusion).eval()
    head.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    with torch.inference_mode():
        logits = head([torch.from_numpy(golden[f"feat{level}"]).float() for level in range(4)]).numpy()
    expected = golden[f"logits_da_{fusion}"]
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_papers_head_has_the_papers_parameter_count() -> None:
    assert sum(p.numel() for p in DAFormerHead((32, 64, 160, 256), 19).parameters()) == 3_581_203
    assert sum(p.numel() for p in DAFormerHead((64, 128, 320, 512), 19).parameters()) == 3_712_275


@pytest.mark.parametrize("fusion", ["sepaspp", "aspp", "conv1"])
def test_output_has_the_resolution_of_the_finest_map(fusion: str) -> None:
    head = DAFormerHead((4, 6), 3, decoder_channels=8, embed_channels=8, fusion=fusion).eval()
    with torch.inference_mode():
        assert head([torch.zeros(2, 4, 9, 13), torch.zeros(2, 6, 5, 7)]).shape == (2, 3, 9, 13)
