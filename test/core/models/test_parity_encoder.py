"""MiT-B0 against the reference's encoder, block by block inside and map by map outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import SAMPLING, Golden, golden, golden_fixture, golden_full, relative_error
from golden_weights import golden_weights
from torch import Tensor, nn

from hrda_core.models.mix_transformer import MixTransformer

load = golden_fixture()
Load = Callable[[str], Golden]

INSIDE = {
    "patch_embed1_tokens": "patch_embed1",
    "norm1": "block1.0.norm1",
    "attn_out": "block1.0.attn",
    "mlp_out": "block1.0.mlp",
    "block_out": "block1.0",
}
"""Golden array -> module whose output it is."""


@pytest.fixture(scope="module")
def encoder() -> MixTransformer:
    network = MixTransformer("b0")
    network.load_state_dict(golden_weights("encoder"))
    return network.eval()


@pytest.fixture(scope="module")
def outputs(encoder: MixTransformer) -> dict[str, Any]:
    """The maps, and by module name what came out inside."""
    collected: dict[str, Any] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, output: collected.update({name: output})

    hooks = [encoder.get_submodule(name).register_forward_hook(keep(name)) for name in INSIDE.values()]
    with torch.inference_mode():
        collected["maps"] = encoder(_image())
    for hook in hooks:
        hook.remove()
    return collected


def _image() -> Tensor:
    return torch.from_numpy(golden("encoder_mitb0")["image"]).float()


def test_the_four_maps_equal_the_reference(load: Load, outputs: dict[str, Any]) -> None:
    expected = load("encoder_mitb0")
    for level, features in enumerate(outputs["maps"], start=1):
        assert relative_error(expected.sample(f"f{level}", features), expected[f"f{level}"]) <= 1e-4


@pytest.mark.parametrize("array", INSIDE)
def test_every_step_of_the_first_block_equals_the_reference(load: Load, outputs: dict[str, Any], array: str) -> None:
    expected = load("encoder_mitb0_block1_0")
    own = outputs[INSIDE[array]]
    if array == "patch_embed1_tokens":
        own, height, width = own
        assert [height, width] == expected["hw"].tolist()
    assert relative_error(expected.sample(array, own), expected[array]) <= 1e-4


@pytest.mark.parametrize("change", ["eps", "gelu"])
def test_the_bar_is_tight_enough_to_catch(change: str) -> None:
    network = MixTransformer("b0")
    network.load_state_dict(golden_weights("encoder"))
    for module in network.modules():
        if change == "eps" and isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
        elif change == "gelu" and hasattr(module, "fc2"):
            module.forward = _with_tanh_gelu(module)  # type: ignore[method-assign]
    with torch.inference_mode():
        maps = network.eval()(_image())
    expected = golden("encoder_mitb0")
    errors = [relative_error(expected.sample(f"f{i}", x), expected[f"f{i}"]) for i, x in enumerate(maps, start=1)]
    assert max(errors) > 1e-4


def test_the_reduced_set_is_cut_from_the_full_one(shared_dir: Path) -> None:
    for name in SAMPLING:
        full, reduced = golden_full(shared_dir, name), golden(name)
        assert set(full) == set(reduced)
        for array in full:
            np.testing.assert_array_equal(reduced.sample(array, full[array]), reduced[array], err_msg=f"{name} {array}")


def _with_tanh_gelu(ffn: Any) -> Callable[[Tensor, int, int], Tensor]:
    def forward(tokens: Tensor, height: int, width: int) -> Tensor:
        hidden = ffn.fc1(tokens).transpose(1, 2).unflatten(2, (height, width))
        hidden = nn.functional.gelu(ffn.dwconv(hidden), approximate="tanh")
        return ffn.fc2(hidden.flatten(2).transpose(1, 2))

    return forward
