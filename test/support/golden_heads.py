"""The reference's decoders on four given maps: the networks, their weights and the logits that must come out.

    head = HEADS["isahead"].build().eval()
    head.load_state_dict(golden_head_weights("isahead"))
    expected = golden_logits("isahead")                      # sampled; bring yours there with sample(logits)

The weights are not stored: like those of `golden_weights.py` they come out of NumPy's RandomState, here with one seed a
decoder, and `HEADS` has the sha256 of each set. test/golden/heads.npz holds maps and logits; write it anew with
`python test/support/golden_heads.py`, which reads ../shared/golden.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hrda_core.models import (
    DAFormerHead,
    DeepLabV2Head,
    DeepLabV3PlusHead,
    ISAHead,
    SegFormerHead,
    UPerHead,
)

__all__ = ["CHANNELS", "HEADS", "golden_features", "golden_head_weights", "golden_logits", "sample"]

FILE = Path(__file__).resolve().parents[1] / "golden" / "heads.npz"
CHANNELS = (32, 64, 160, 256)
CLASSES = 19
CLASSIFIERS = ("conv_seg", "linear_pred")


@dataclass(frozen=True)
class GoldenHead:
    """One decoder: how it is built, the seed of its weights, and their sha256."""

    build: Callable[[], nn.Module]
    seed: int
    sha256: str


def _daformer(fusion: str) -> DAFormerHead:
    return DAFormerHead(CHANNELS, CLASSES, decoder_channels=32, embed_channels=24, fusion=fusion)


HEADS = {
    "segformer": GoldenHead(
        lambda: SegFormerHead(CHANNELS, CLASSES, decoder_channels=64),
        2100,
        "e371248a879befebbe46d02977211e4eaba81b7849ed24b3f8a465fbe716ddfa",
    ),
    "uper": GoldenHead(
        lambda: UPerHead(CHANNELS, CLASSES, decoder_channels=32),
        2101,
        "57a9f956b67657f0619ba892c09c26649454d86dff549404c4c6352a5f7297e3",
    ),
    "dlv2": GoldenHead(
        lambda: DeepLabV2Head(CHANNELS, CLASSES),
        2102,
        "4fb4983438683fe772071e02d2f68527674361c78dcd7240cd36cadbdc4c09a2",
    ),
    "da_isa": GoldenHead(
        lambda: _daformer("isa"), 2103, "64f6720f9e2f50f7a2633e0948a4d3bc7a8cf3e02c0520d810ea531c3e7dc156"
    ),
    "da_conv1": GoldenHead(
        lambda: _daformer("conv1"), 2104, "b52e8c5d918a979a196034277f14d024d28923d634f29e8309f41e986838df4d"
    ),
    "da_aspp": GoldenHead(
        lambda: _daformer("aspp"), 2105, "1979e5ecdd1c81ca203dfd8e8249ed4ff8cf90d1dc1fe96e0d1adf31e0fb2d30"
    ),
    "da_sepaspp": GoldenHead(
        lambda: _daformer("sepaspp"), 2106, "afc133a0c2de3587f7ad66905f92999bb170592b79ce2709e02e688569efdabc"
    ),
    "isahead": GoldenHead(
        lambda: ISAHead(CHANNELS, CLASSES, decoder_channels=32),
        2107,
        "3db9c1e6651062d9c03ec18938fe0cea3c2384790b5937b1063c8f9e0af880f8",
    ),
    "isahead_nodbn": GoldenHead(
        lambda: ISAHead(CHANNELS, CLASSES, decoder_channels=32, norm=False),
        2108,
        "54c48a8712045ba775177bc4e664809e4723394b080f048719be3b6216937bf6",
    ),
    "dlv3p": GoldenHead(
        lambda: DeepLabV3PlusHead(CHANNELS, CLASSES, decoder_channels=32, skip_channels=12),
        2109,
        "fe95b228fe2a452392f894b222cc1789240cb027bc7a36495eae6aa982e3f9a0",
    ),
}
"""Decoder -> what the reference's run of it is made of."""


def golden_features() -> list[Tensor]:
    """The four input maps, batch 2: (2, 32, 24, 32), (2, 64, 12, 16), (2, 160, 6, 8), (2, 256, 3, 4)."""
    with np.load(FILE) as stored:
        return [torch.from_numpy(stored[f"feat{level}"]).float() for level in range(4)]


def golden_logits(name: str) -> np.ndarray:
    """The reference's logits, at the places that `sample` picks."""
    with np.load(FILE) as stored:
        logits: np.ndarray = stored[f"logits_{name}"]
        return logits


def sample(logits: np.ndarray) -> np.ndarray:
    """Every second row and column of big maps; small ones whole."""
    return logits[..., 1::2, 1::2] if logits.shape[-1] > 8 else logits


def golden_head_weights(name: str) -> dict[str, Tensor]:
    """State dict in float32 under the reference's names. Counters are zeros.

    Raises:
        ValueError: the drawn values are not those of the reference's run.
    """
    head = HEADS[name]
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in head.build().state_dict().items()}
    random, digest, state = np.random.RandomState(head.seed), hashlib.sha256(), {}
    for key in sorted(shapes):
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
            continue
        values = _draw(random, key, shapes[key]).astype(np.float32).astype(np.float16)
        digest.update(values.tobytes())
        state[key] = torch.from_numpy(values.astype(np.float32))
    if digest.hexdigest() != head.sha256:
        raise ValueError(f"weights of {name}: sha256 {digest.hexdigest()}, expected {head.sha256}")
    return state


def _draw(random: np.random.RandomState, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("running_mean"):
        return 0.2 * random.randn(*shape)
    if name.endswith("running_var"):
        return random.uniform(0.5, 1.5, shape)
    if name.endswith("bias"):
        return 0.1 * random.randn(*shape)
    if len(shape) == 1:
        return random.uniform(0.7, 1.3, shape)
    return random.randn(*shape) / math.sqrt(math.prod(shape[1:])) * (3 if name.startswith(CLASSIFIERS) else 1)


def _write(shared: Path) -> None:
    with np.load(shared / "golden" / "heads.npz") as full:
        arrays = {name: sample(full[name]) if name.startswith("logits") else full[name] for name in full.files}
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE}: {FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    _write(FILE.parents[2].parent / "shared")
