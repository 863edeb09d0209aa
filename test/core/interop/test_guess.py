"""Telling the network from names and shapes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hrda_core.errors import CheckpointError
from hrda_core.interop import guess_network
from hrda_core.models import create_model


def _state(preset: str, classes: int = 19, **overrides: Any) -> dict[str, Tensor]:
    with torch.device("meta"):
        return create_model(preset, classes, **overrides).state_dict()


@pytest.mark.parametrize("variant", range(6))
@pytest.mark.parametrize("family", ["hrda", "daformer"])
def test_family_and_variant_are_told(family: str, variant: int) -> None:
    guess = guess_network(_state(f"{family}_mitb{variant}", 16), "x")
    assert (guess.preset, guess.num_classes, guess.overrides) == (f"{family}_mitb{variant}", 16, {})


@pytest.mark.parametrize(
    ("preset", "overrides"),
    [
        ("hrda_mitb0", {"decoder_channels": 8, "embed_channels": 16, "attention_channels": 24}),
        ("hrda_mitb0", {"classwise_attention": False}),
        ("hrda_mitb0", {"fusion": "aspp"}),
        ("daformer_mitb0", {"fusion": "conv1"}),
        ("daformer_mitb0", {"fusion": "isa"}),
        ("daformer_mitb0", {"fusion": "sepaspp_bottleneck"}),
        ("segformer_mitb5", {"encoder": "mit_b1", "decoder_channels": 256}),
        ("segformer_mitb5", {}),
    ],
)
def test_what_differs_from_the_preset_becomes_overrides(preset: str, overrides: dict[str, Any]) -> None:
    state = _state(preset, **overrides)
    guess = guess_network(state, "x")
    assert (guess.preset, dict(guess.overrides)) == (preset, overrides)
    with torch.device("meta"):
        again = create_model(guess.preset, guess.num_classes, **guess.overrides).state_dict()
    assert {name: value.shape for name, value in again.items()} == {name: value.shape for name, value in state.items()}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (_state("hrda_mitb0", fixed_attention=0.5), "without scale attention"),
        (_state("hrda_lite"), "HRDA on an encoder other than MiT with 19 classes.*--preset"),
        (_state("dlv2_mitb5"), "another decoder on MiT-B5.*--preset"),
        ({k: v for k, v in _state("hrda_mitb0").items() if k.startswith("backbone.")}, "an encoder alone .MiT-B0."),
        ({"a": torch.ones(1)}, "--preset"),
    ],
)
def test_what_cannot_be_told_is_said(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        guess_network(state, "x")
