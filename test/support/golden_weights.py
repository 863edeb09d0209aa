"""The weights that the golden values were computed with, made anew instead of stored (14 MB).

    network.load_state_dict(golden_weights())              # HRDA with MiT-B0, 19 classes
    network.load_state_dict(golden_weights("daformer"))    # DAFormer: the same encoder and `decode_head.head`
    network.load_state_dict(golden_weights("encoder"))     # the encoder alone

They were drawn by NumPy's RandomState(1000), whose stream is frozen for good, tensor by tensor in sorted name order,
and rounded to float32, then to float16. The rules below give all 250 tensors bit by bit; test_parity_weights.py checks
each against its sha256 in test/golden/weights_manifest.json.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math

import numpy as np
import torch
from golden import FOLDER
from torch import Tensor

__all__ = ["draw_weights", "golden_weights", "weights_manifest"]

SEED = 1000
HEAD = "decode_head.head."


def golden_weights(network: str = "hrda") -> dict[str, Tensor]:
    """State dict in float32 (counters int64) under the reference's names.

    Args:
        network: `hrda`, `daformer` or `encoder` (the last without the prefix `backbone.`).
    """
    state = {name: value.clone() for name, value in _hrda_state().items()}
    encoder = {name: value for name, value in state.items() if name.startswith("backbone.")}
    if network == "hrda":
        return state
    if network == "encoder":
        return {name.removeprefix("backbone."): value for name, value in encoder.items()}
    if network == "daformer":
        return encoder | {
            "decode_head." + name.removeprefix(HEAD): value for name, value in state.items() if name.startswith(HEAD)
        }
    raise ValueError(f"no golden weights for '{network}'; choose hrda, daformer or encoder")


def weights_manifest() -> dict[str, tuple[list[int], str, str]]:
    """Name -> (shape, dtype on disk, sha256 of its bytes in C order), in sorted order."""
    entries: dict[str, tuple[list[int], str, str]] = json.loads((FOLDER / "weights_manifest.json").read_text("utf-8"))
    return entries


def draw_weights(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """Draw tensors of these names and shapes: float16, and int64 zeros for BatchNorm's counters."""
    random = np.random.RandomState(SEED)
    drawn = {}
    for name in sorted(shapes):
        if name.endswith("num_batches_tracked"):
            drawn[name] = np.zeros(shapes[name], np.int64)
        else:
            drawn[name] = _draw(random, name, shapes[name]).astype(np.float32).astype(np.float16)
    return drawn


def digest(values: np.ndarray) -> str:
    """sha256 of the bytes in C order."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _draw(random: np.random.RandomState, name: str, shape: list[int]) -> np.ndarray:
    """One tensor. Scales at patch-embed and SR convolutions are small, so that a wrong LayerNorm eps shows."""
    patch_embed, reduction = ".patch_embed" in name, ".sr." in name
    if name.endswith("running_mean"):
        return 0.2 * random.randn(*shape)
    if name.endswith("running_var"):
        return random.uniform(0.5, 1.5, shape)
    if name.endswith("bias"):
        return random.randn(*shape) * 0.1 * (0.05 if patch_embed else 0.1 if reduction else 1)
    if len(shape) == 1:
        return random.uniform(0.015, 0.03, shape) if patch_embed else random.uniform(0.7, 1.3, shape)
    scale = 0.03 if patch_embed or reduction else 3 if "conv_seg" in name else 1
    return random.randn(*shape) / math.sqrt(math.prod(shape[1:])) * scale


@functools.cache
def _hrda_state() -> dict[str, Tensor]:
    drawn = draw_weights({name: shape for name, (shape, _, _) in weights_manifest().items()})
    return {
        name: torch.from_numpy(values.astype(np.float32) if values.dtype == np.float16 else values)
        for name, values in drawn.items()
    }
