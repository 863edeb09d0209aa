"""Small parts in the blocks of a plain ViT whose own weights may rest: LoRA, and the tokens of Rein.

**LoRA** (arXiv 2106.09685): the weight W of every projection to queries, keys and values becomes W + B A, where A has
`rank` rows and B as many columns. B starts at zero. The paper's factor alpha / r is 1 here. `merge_lora` adds B A to W;
the network then computes the same without LoRA's cost.

**Rein** (arXiv 2312.04265, from its formulas): behind block i the tokens f_i (N, C) of the image become f_i + df_i with

    T_i  = A_i B_i                                  m learned tokens (m, C), A_i (m, r), B_i (r, C)
    S_i  = softmax(f_i T_i^T / sqrt(C))             (N, m)
    df_i = (S_i[:, 2:m] (T_i[2:m] W_T + b_T) + f_i) W_f + b_f

The two layers (W_T, b_T), (W_f, b_f) are those of all blocks. What the first token draws is dropped, so that f_i may
agree with none of them. The paper also makes the queries of a Mask2Former decoder of the tokens; the decoders here have
no queries. W_f and b_f start at zero (our choice), so both begin as the encoder that they were put into.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LoRALinear", "Rein", "adapter_names", "add_lora", "describe_adapters", "drop_lora", "merge_lora"]

_PROJECTIONS = ("qkv", "q_proj", "k_proj", "v_proj")
"""What timm calls the layers that make queries, keys and values, in one or each in its own."""

_TOKEN_STD = 0.02
"""Learned tokens of vision transformers start with it."""


class LoRALinear(nn.Linear):
    """A linear layer with an update of low rank beside its weight, which keeps its name.

    Args:
        plain: the layer whose weight and bias it takes over.
        rank: rows of A.
    """

    def __init__(self, plain: nn.Linear, rank: int) -> None:
        with torch.device("meta"):
            super().__init__(plain.in_features, plain.out_features, bias=plain.bias is not None)
        self.weight, self.bias = plain.weight, plain.bias
        self.lora_a = nn.Parameter(plain.weight.new_empty(rank, plain.in_features))
        self.lora_b = nn.Parameter(plain.weight.new_zeros(plain.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return super().forward(x) + F.linear(F.linear(x, self.lora_a), self.lora_b)

    def plain(self, *, merged: bool) -> nn.Linear:
        """Return the layer without the update, which `merged` adds to a new weight."""
        with torch.device("meta"):
            layer = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        layer.weight, layer.bias = self.weight, self.bias
        if merged:
            layer.weight = nn.Parameter((self.weight + self.lora_b @ self.lora_a).detach())
        return layer


class Rein(nn.Module):
    """The tokens of all blocks and the two layers that they share.

    Args:
        blocks: number of blocks.
        width: channels C.
        tokens: number of learned tokens m of each block, 2 or more.
        rank: rank r of these tokens.
    """

    def __init__(self, blocks: int, width: int, tokens: int, rank: int) -> None:
        super().__init__()
        self.token_a = nn.Parameter(torch.empty(blocks, tokens, rank))
        self.token_b = nn.Parameter(torch.empty(blocks, rank, width))
        self.of_tokens = nn.Linear(width, width)
        self.of_features = nn.Linear(width, width)
        nn.init.normal_(self.token_a, std=rank**-0.5)
        nn.init.normal_(self.token_b, std=_TOKEN_STD)
        nn.init.zeros_(self.of_features.weight)
        nn.init.zeros_(self.of_features.bias)

    def forward(self, features: Tensor, block: int) -> Tensor:
        """Refine the tokens (B, N, C) behind a block, counted from 0."""
        tokens = self.token_a[block] @ self.token_b[block]
        shares = (features @ tokens.T * tokens.shape[1] ** -0.5).softmax(-1)
        drawn = shares[..., 1:] @ self.of_tokens(tokens[1:])
        refined: Tensor = features + self.of_features(drawn + features)
        return refined

    def refine(self, blocks: nn.ModuleList) -> None:
        """Let every block's output pass through this module from now on; copies of the network do so with theirs."""
        for number, block in enumerate(blocks):
            block.register_forward_hook(_Refine(self, number))


class _Refine:
    """An object and no closure: a copy of the network copies it too, and with it the tokens that it leads to."""

    def __init__(self, rein: Rein, block: int) -> None:
        self.rein, self.block = rein, block

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        refined: Tensor = self.rein(output, self.block)
        return refined


def add_lora(blocks: nn.ModuleList, rank: int) -> None:
    """Put LoRA beside every projection to queries, keys and values."""
    module: Any
    for module in list(blocks.modules()):
        for name in _PROJECTIONS:
            layer = getattr(module, name, None)
            if isinstance(layer, nn.Linear):
                setattr(module, name, LoRALinear(layer, rank))
                if hasattr(module, "qkv_bias_separate"):
                    module.qkv_bias_separate = True  # else timm's EVA takes the weight and goes around the layer


def merge_lora(network: nn.Module) -> None:
    """Replace every LoRA layer by a plain one with W + B A: the same function."""
    _replace(network, merged=True)


def drop_lora(network: nn.Module) -> None:
    """Replace every LoRA layer by the plain one that it was put beside."""
    _replace(network, merged=False)


def _replace(network: nn.Module, *, merged: bool) -> None:
    for module in list(network.modules()):
        for name, layer in list(module.named_children()):
            if isinstance(layer, LoRALinear):
                setattr(module, name, layer.plain(merged=merged))


def adapter_names(names: Iterable[str]) -> set[str]:
    """Return those of an encoder's or network's names that belong to LoRA or Rein."""
    return {name for name in names if ".lora_" in name or name.startswith(("rein.", "backbone.rein."))}


def describe_adapters(tensors: Mapping[str, Tensor]) -> str:
    """Say which adapters a network's tensors hold, from their names and shapes; "" without any."""
    lora = {name: value for name, value in tensors.items() if name.endswith(".lora_a")}
    if lora:
        blocks = {name.partition("blocks.")[2].partition(".")[0] for name in lora}
        rank, width = next(iter(lora.values())).shape
        return f"LoRA of rank {rank} in {len(blocks)} blocks of width {width}"
    if {"backbone.rein.token_a", "backbone.rein.token_b"} <= tensors.keys():
        depth, tokens, rank = tensors["backbone.rein.token_a"].shape
        width = tensors["backbone.rein.token_b"].shape[-1]
        return f"{tokens} tokens of Rein of rank {rank} in {depth} blocks of width {width}"
    return ""
