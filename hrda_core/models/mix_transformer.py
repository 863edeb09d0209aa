"""MiT, the Mix Transformer encoder of SegFormer (arXiv 2105.15203), B0 to B5: the encoder of DAFormer and HRDA.

Four stages at strides 4, 8, 16, 32, each: overlapping patch embedding -> pre-norm blocks -> LayerNorm. A block is

    x = x + Attention(LN(x))          keys and values from a map reduced by a strided convolution ("SR")
    x = x + MixFFN(LN(x))             1x1 -> depth-wise 3x3 -> GELU -> 1x1; the 3x3 stands in for a position embedding

LayerNorms come with two eps values, as in the released weights: 1e-5 after the patch embedding and the SR convolution,
1e-6 before attention and Mix-FFN and at the end of a stage. Swapping them shifts the maps by up to 2 %.

Parameter names are those of the released checkpoints: `patch_embed1.proj`, `block1.0.attn.kv`, `norm1`, ...
Tokens are (B, N, C) with N = H * W in row-major order, maps (B, C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hrda_core.errors import ImageError, RecipeError, proposal

__all__ = ["VARIANTS", "MixTransformer", "Variant"]

_HEADS = (1, 2, 5, 8)
_SR_RATIOS = (8, 4, 2, 1)
_MLP_RATIO = 4
_EPS_EMBED = 1e-5
_EPS_BLOCK = 1e-6


@dataclass(frozen=True)
class Variant:
    """The values in which MiT variants differ: channels and number of blocks of the four stages."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


VARIANTS: Mapping[str, Variant] = {
    "b0": Variant((32, 64, 160, 256), (2, 2, 2, 2)),
    "b1": Variant((64, 128, 320, 512), (2, 2, 2, 2)),
    "b2": Variant((64, 128, 320, 512), (3, 4, 6, 3)),
    "b3": Variant((64, 128, 320, 512), (3, 4, 18, 3)),
    "b4": Variant((64, 128, 320, 512), (3, 8, 27, 3)),
    "b5": Variant((64, 128, 320, 512), (3, 6, 40, 3)),
}


class MixTransformer(nn.Module):
    """Maps an image to four feature maps at strides 4, 8, 16, 32.

    Every image size from 1 x 1 works. The maps' sides are ceil(side / stride): 90 x 134 gives 23 x 34, 12 x 17, 6 x 9,
    3 x 5. Where a map is smaller than its SR kernel (images below 29 pixels a side; the reference raises there), the
    keys' and values' map is padded up to the kernel by repeating its last row or column.

    Args:
        variant: `b0` to `b5`.
        drop_path: rate of stochastic depth at the last block; it rises linearly from 0 at the first.
        checkpoint_blocks: keep only each block's input for the backward pass and compute the block again there.

    Attributes:
        variant: name of the variant, `b0` to `b5`.
        channels: channels of the four maps, finest first.
        strides: image pixels per cell of the four maps.
        style_hallucination: applied to the map of stage 1 (for domain generalization: a `StyleHallucination`, see
            `hrda_core/uda/style_hallucination.py`, which doubles the batch while a training step asks for it); None =
            the map stays as it is.

    Raises:
        RecipeError: the variant is unknown (the nearest is proposed), or drop_path is outside 0..1.
    """

    strides = (4, 8, 16, 32)
    style_hallucination: nn.Module | None

    def __init__(self, variant: str = "b5", *, drop_path: float = 0.1, checkpoint_blocks: bool = False) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise RecipeError(f"MiT variant '{variant}' is not known; {proposal(variant.lower(), VARIANTS)}")
        if not 0 <= drop_path < 1:
            raise RecipeError(f"drop_path must lie in 0..1, 1 excluded, not {drop_path}")
        self.variant = variant
        self.channels = VARIANTS[variant].channels
        self.checkpoint_blocks = checkpoint_blocks
        depths = VARIANTS[variant].depths
        rates = [drop_path * index / (sum(depths) - 1) for index in range(sum(depths))]
        for stage, (channels, depth) in enumerate(zip(self.channels, depths, strict=True), start=1):
            previous = 3 if stage == 1 else self.channels[stage - 2]
            stage_rates, rates = rates[:depth], rates[depth:]
            blocks = [_Block(channels, _HEADS[stage - 1], _SR_RATIOS[stage - 1], rate) for rate in stage_rates]
            self.add_module(f"patch_embed{stage}", _PatchEmbed(previous, channels, 7 if stage == 1 else 3))
            self.add_module(f"block{stage}", nn.ModuleList(blocks))
            self.add_module(f"norm{stage}", nn.LayerNorm(channels, eps=_EPS_BLOCK))
        self.apply(_initialise)
        self.register_module("style_hallucination", None)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map a normalised image (B, 3, H, W) to contiguous maps (B, Ci, ceil(H/si), ceil(W/si)), si = 4, 8, 16, 32.

        Raises:
            ImageError: the input is no batch of three-channel images of the weights' float type, or a side is empty.
        """
        if not _is_traced():
            self._refuse_what_is_no_image(image)
        maps = []
        features = image
        for stage in range(1, 5):
            features = self.forward_stage(stage, features)
            if stage == 1 and self.style_hallucination is not None:
                features = self.style_hallucination(features)
            maps.append(features)
        return maps

    def forward_stage(self, stage: int, features: Tensor) -> Tensor:
        """Run one stage, 1 to 4, on the image (stage 1) or the map of the stage before it."""
        tokens, height, width = self.get_submodule(f"patch_embed{stage}")(features)
        for block in self.get_submodule(f"block{stage}").children():
            if self.checkpoint_blocks and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, height, width, use_reentrant=False)
            else:
                tokens = block(tokens, height, width)
        # Contiguous, since the depth-wise convolutions that follow are several times slower on transposed maps.
        return _as_map(self.get_submodule(f"norm{stage}")(tokens), height, width).contiguous()

    def _refuse_what_is_no_image(self, image: Tensor) -> None:
        if image.dim() != 4 or image.shape[1] != 3 or 0 in image.shape[2:]:
            raise ImageError(f"the encoder takes images (B, 3, H, W), not a tensor {tuple(image.shape)}", "size")
        weights = self.get_parameter("norm1.weight").dtype
        if image.dtype != weights and not torch.is_autocast_enabled(image.device.type):
            raise ImageError(
                f"the encoder's weights are {weights}, the image is {image.dtype}: "
                f"normalise it and convert it with .to({weights})",
                "dtype",
            )


class _PatchEmbed(nn.Module):
    """Strided convolution with overlapping windows, then LayerNorm: (B, Cin, H, W) -> tokens and their grid's size."""

    def __init__(self, in_channels: int, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, kernel_size, stride=kernel_size // 2 + 1, padding=kernel_size // 2)
        self.norm = nn.LayerNorm(channels, eps=_EPS_EMBED)

    def forward(self, features: Tensor) -> tuple[Tensor, int, int]:
        features = self.proj(features)
        return self.norm(_as_tokens(features)), features.shape[2], features.shape[3]


class _Attention(nn.Module):
    """Multi-head attention of all tokens to the tokens of a map that is `sr_ratio` times coarser (equation 2)."""

    def __init__(self, channels: int, heads: int, sr_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.sr_ratio = sr_ratio
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        if sr_ratio > 1:
            self.sr = nn.Conv2d(channels, channels, sr_ratio, stride=sr_ratio)
            self.norm = nn.LayerNorm(channels, eps=_EPS_EMBED)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        split = (self.heads, tokens.shape[2] // self.heads)
        reduced = self._reduce(tokens, height, width)
        query = self.q(tokens).unflatten(2, split).transpose(1, 2)  # (B, heads, N, C / heads)
        key, value = self.kv(reduced).unflatten(2, (2, *split)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _reduce(self, tokens: Tensor, height: int, width: int) -> Tensor:
        if self.sr_ratio == 1:
            return tokens
        coarse = _repeat_up_to(_as_map(tokens, height, width), self.sr_ratio)
        reduced: Tensor = self.norm(_as_tokens(self.sr(coarse)))
        return reduced


class _MixFFN(nn.Module):
    """Feed-forward network with a depth-wise 3x3 convolution inside (equation 3). Exact GELU, no dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = _MLP_RATIO * channels
        self.fc1 = nn.Linear(channels, hidden)
        self.dwconv = _DepthwiseConv(hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        # Both linear maps run as 1x1 convolutions: the wide map stays channel-first for the depth-wise one, and only
        # the narrow one is transposed.
        features = _as_map(tokens, height, width).contiguous()
        features = F.gelu(self.dwconv(_pointwise(self.fc1, features)))
        return _as_tokens(_pointwise(self.fc2, features))


class _DepthwiseConv(nn.Module):
    """A depth-wise 3x3 convolution with bias, one level deeper for the checkpoints' name `mlp.dwconv.dwconv`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.dwconv(features)
        return out


class _Block(nn.Module):
    """Attention and Mix-FFN, each with LayerNorm before it, a residual around it, and stochastic depth."""

    def __init__(self, channels: int, heads: int, sr_ratio: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=_EPS_BLOCK)
        self.attn = _Attention(channels, heads, sr_ratio)
        self.norm2 = nn.LayerNorm(channels, eps=_EPS_BLOCK)
        self.mlp = _MixFFN(channels)
        self.drop_path = drop_path

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        tokens = tokens + self._drop(self.attn(self.norm1(tokens), height, width))
        return tokens + self._drop(self.mlp(self.norm2(tokens), height, width))

    def _drop(self, branch: Tensor) -> Tensor:
        """Stochastic depth: in training, zero the branch of whole samples and scale up the others."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        return branch * branch.new_empty(branch.shape[0], 1, 1).bernoulli_(keep).div_(keep)


def _as_map(tokens: Tensor, height: int, width: int) -> Tensor:
    """(B, H * W, C) -> a view (B, C, H, W)."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], height, width)


def _as_tokens(features: Tensor) -> Tensor:
    """(B, C, H, W) -> a view (B, H * W, C)."""
    return features.flatten(2).transpose(1, 2)


def _pointwise(linear: nn.Linear, features: Tensor) -> Tensor:
    """A linear map over channels at every pixel of (B, C, H, W)."""
    return F.conv2d(features, linear.weight[:, :, None, None], linear.bias)


def _repeat_up_to(features: Tensor, side: int) -> Tensor:
    """Repeat the last row and column until both sides are at least `side`; larger maps pass unchanged.

    A traced graph has tensors for sizes and keeps no such branch: it serves maps of at least `side`.
    """
    height, width = features.shape[2:]
    if _is_traced() or (height >= side and width >= side):
        return features
    return F.pad(features, (0, max(side - width, 0), 0, max(side - height, 0)), mode="replicate")


def _is_traced() -> bool:
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


def _initialise(module: nn.Module) -> None:
    """Linear: truncated normal, std 0.02, cut at +-2. Convolution: normal by fan-out. Biases 0, LayerNorm 1 and 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
