"""Post-hoc logit adjustment: what is added to the logits of rare classes once a network is trained.

Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, section 4.1. Cross-entropy makes a network
expect classes as often as its source shows them. On images of another domain its evidence is weaker, so this
expectation decides more often, and against what is rare. The added values lie in the bias of the classifier and cost
nothing at run time. HRDA's detail and context share their decoder and their attention sums to one, so the fused logits
move by the same values.

Weights that hold such values say so in the metadata of their file, so that a training that starts from them takes
them out again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from hrda_core.errors import TextError
from hrda_core.models.deeplab_heads import DeepLabV2Head
from hrda_core.models.hrda import HRDA
from hrda_core.models.segformer_head import SegFormerHead
from hrda_core.untrusted_text import parse_json

__all__ = ["ClassBias", "bias_in", "class_bias", "metadata_of", "raised", "with_bias"]

ClassBias = tuple[float, ...]
"""What is added to each class's logit; empty = nothing."""

_KEY = "class_bias"


def class_bias(strength: float, shares: Sequence[float]) -> ClassBias:
    """Return `-strength * log(share)` of each class, less that of the most frequent one.

    Args:
        strength: 0 = nothing is added; 1 = as if all classes were equally frequent.
        shares: share of the labelled pixels by class, 0..1. A class that has none was not learnt and stays as it is.

    Returns:
        values of 0 or more by class; empty where `strength` is 0.
    """
    if not strength:
        return ()
    most = max(shares)
    return tuple(round(-strength * math.log(share / most), 4) if share > 0 else 0.0 for share in shares)


def with_bias(network: nn.Module, weights: Mapping[str, Tensor], bias: ClassBias) -> dict[str, Tensor]:
    """Return weights of an HRDA or single-scale network with `bias` added to that of its classifier.

    Weights without a classifier of that many classes stay as they are.
    """
    name = _name(network)
    held = weights.get(name)
    if not bias or held is None or held.numel() != len(bias):
        return dict(weights)
    return {**weights, name: held.float() + torch.tensor(bias, device=held.device)}


@contextmanager
def raised(network: nn.Module, bias: ClassBias) -> Iterator[None]:
    """Let the network answer with `bias` added; afterwards it is bit for bit as before."""
    if not bias:
        yield
        return
    held = network.get_parameter(_name(network))
    kept = held.detach().clone()
    with torch.no_grad():
        held.add_(torch.tensor(bias, device=held.device, dtype=held.dtype))
    try:
        yield
    finally:
        with torch.no_grad():
            held.copy_(kept)


def metadata_of(bias: ClassBias) -> dict[str, str] | None:
    """Return what a safetensors file says of the bias that its weights hold."""
    return {_KEY: str(list(bias))} if bias else None


def bias_in(weights: Path) -> ClassBias:
    """Return the bias that a safetensors file says its weights hold; empty where it says nothing that fits.

    Raises:
        SafetensorError, OSError: the file cannot be read.
    """
    with safe_open(weights, framework="pt") as file:
        text = (file.metadata() or {}).get(_KEY, "[]")
    try:
        return tuple(float(value) for value in parse_json(text))
    except (TextError, TypeError, ValueError):
        return ()


def _name(network: nn.Module) -> str:
    """Name of the classifier's bias among the network's parameters."""
    within = "decode_head.head" if isinstance(network, HRDA) else "decode_head"
    head = network.get_submodule(within)
    if isinstance(head, DeepLabV2Head):  # a sum of classifiers
        return f"{within}.aspp_modules.0.conv.bias"
    return f"{within}.{'linear_pred' if isinstance(head, SegFormerHead) else 'conv_seg'}.bias"
