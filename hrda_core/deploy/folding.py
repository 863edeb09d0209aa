"""Exact algebra before deployment: fewer operations that compute the same function.

- **BatchNorm** in eval mode is a scale and a shift for each channel, which goes into the convolution before it.
- **Embedding + upsampling + concatenation + 1x1 convolution.** A 1x1 convolution W acts on each pixel, and bilinear
  upsampling acts on each channel with weights that sum to 1, so they commute, constants included:

      W concat(up(E_1 x_1 + b_1), ...) = sum of up(W_1 E_1 x_1 + W_1 b_1) ...

  The products W_i E_i are made once, and run on the coarse grids. That removes the widest matrix product of the scale
  attention head and of SegFormer's head, and the dilation-1 branch of DAFormer's fusion.

`folded` returns a copy; differences come from rounding alone (1e-5 of the largest logit, tested for every preset).
Needs torch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from hrda_core.models.conv_modules import ConvNormAct, resize
from hrda_core.models.daformer_head import ASPP, DAFormerHead, LinearEmbed
from hrda_core.models.hrda import HRDA
from hrda_core.models.segformer_head import SegFormerHead
from hrda_core.models.segmenter import Segmenter

__all__ = ["folded"]

_PROBE_SIDE = 64


def folded(model: HRDA | Segmenter) -> HRDA | Segmenter:
    """Return a copy in eval mode with BatchNorms and 1x1 convolutions folded; it can be run, not trained or saved."""
    model = copy.deepcopy(model).eval()
    encoder = model.backbone
    device = next(encoder.parameters()).device
    _fold_norms(encoder, torch.zeros(1, 3, _PROBE_SIDE, _PROBE_SIDE, device=device))
    for module in list(model.modules()):
        if isinstance(module, ConvNormAct):
            _fold_unit(module)
    if isinstance(model, Segmenter):
        model.decode_head = _folded_head(model.decode_head)
        return model
    heads = model.decode_head
    heads.head = _folded_head(heads.head)
    if heads.scale_attention is not None:
        heads.scale_attention = _folded_head(heads.scale_attention)
    return model


class _FoldedLevels(nn.Module):
    """Embedding, upsampling, concatenation and a 1x1 convolution, as a sum of maps made on their own grids."""

    def __init__(self, embeds: Sequence[LinearEmbed], conv: nn.Conv2d) -> None:
        super().__init__()
        width = embeds[0].proj.out_features
        products, bias = [], conv.bias
        assert bias is not None
        for embed, part in zip(embeds, torch.split(conv.weight[:, :, 0, 0].double(), width, dim=1), strict=True):
            products.append(nn.Parameter((part @ embed.proj.weight.double()).float()[:, :, None, None]))
            bias = bias + (part @ embed.proj.bias.double()).float()
        self.weights = nn.ParameterList(products)
        self.bias = nn.Parameter(bias.detach())

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps, finest first -> (B, width, H1, W1), before the activation."""
        finest, *coarser = features
        size = finest.shape[2], finest.shape[3]
        total = F.conv2d(finest, self.weights[0], self.bias)
        for feature, weight in zip(coarser, self.weights[1:], strict=True):
            total = total + resize(F.conv2d(feature, weight), size)
        return total


class _FoldedFusion(nn.Module):
    """Embedding and fusion of `DAFormerHead` where the fusion is one 1x1 convolution."""

    def __init__(self, embeds: Sequence[LinearEmbed], fusion: ConvNormAct) -> None:
        super().__init__()
        self.pointwise, self.activate = _FoldedLevels(embeds, fusion.conv), fusion.activate

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps, finest first -> (B, width, H1, W1)."""
        out: Tensor = self.activate(self.pointwise(features))
        return out


class _FoldedASPP(nn.Module):
    """Embedding and fusion of `DAFormerHead` with dilated branches, whose first branch is a 1x1 convolution."""

    def __init__(self, embeds: Sequence[LinearEmbed], branches: Sequence[nn.Module], bottleneck: nn.Module) -> None:
        super().__init__()
        first, *others = branches
        assert isinstance(first, ConvNormAct)
        self.near = _FoldedFusion(embeds, first)
        self.embed_layers = nn.ModuleList(embeds)
        self.branches = nn.ModuleList(others)
        self.bottleneck = bottleneck

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Maps, finest first -> (B, width, H1, W1)."""
        size = features[0].shape[2], features[0].shape[3]
        finest, *coarser = (embed(feature) for embed, feature in zip(self.embed_layers, features, strict=True))
        levels = torch.cat([finest, *(resize(level, size) for level in coarser)], dim=1)
        branches = [self.near(features), *(branch(levels) for branch in self.branches)]
        out: Tensor = self.bottleneck(torch.cat(branches, dim=1))
        return out


class _FoldedHead(nn.Module):
    """A decoder whose fusion takes the encoder's maps."""

    def __init__(self, stride: int, fusion: nn.Module, classify: nn.Module) -> None:
        super().__init__()
        self.stride, self.fusion, self.conv_seg = stride, fusion, classify

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Turn encoder maps (B, Ci, Hi, Wi), finest first, into logits (B, num_classes, H1, W1)."""
        logits: Tensor = self.conv_seg(self.fusion(features))
        return logits


def _folded_head(head: nn.Module) -> nn.Module:
    """The decoder with its first 1x1 convolution on the maps' own grids; other decoders as they are."""
    if isinstance(head, SegFormerHead):
        return _FoldedHead(head.stride, _FoldedFusion(_embeds(head.linear_c), head.linear_fuse), head.linear_pred)
    # The fusion `sepaspp_bottleneck` embeds in another order.
    if not isinstance(head, DAFormerHead) or head.resize_first:
        return head
    fusion: nn.Module = head.fuse_layer
    if isinstance(fusion, ConvNormAct):
        return _FoldedHead(head.stride, _FoldedFusion(_embeds(head.embed_layers), fusion), head.conv_seg)
    if isinstance(fusion, ASPP):
        aspp = _FoldedASPP(_embeds(head.embed_layers), list(fusion.aspp_modules), fusion.bottleneck)
        return _FoldedHead(head.stride, aspp, head.conv_seg)
    return head


def _embeds(layers: nn.ModuleList) -> list[LinearEmbed]:
    return [layer for layer in layers if isinstance(layer, LinearEmbed)]


def _fold_unit(unit: ConvNormAct) -> None:
    if isinstance(unit.bn, nn.BatchNorm2d):
        _fold_pair(unit.conv, unit.bn)
        unit.bn = None


def _fold_norms(encoder: nn.Module, image: Tensor) -> None:
    """Fold BatchNorms of an encoder of any make: which convolution feeds which norm is seen in one run."""
    made_by: dict[int, nn.Conv2d] = {}
    outputs: list[Tensor] = []  # kept, so that no later tensor takes the identity of one that is gone
    pairs: list[tuple[nn.Conv2d, nn.Module]] = []

    def after_conv(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        outputs.append(output)
        made_by[id(output)] = module

    def before_norm(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in made_by:
            pairs.append((made_by[id(inputs[0])], module))

    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(before_norm) for norm in norms]
    handles += [conv.register_forward_hook(after_conv) for conv in encoder.modules() if isinstance(conv, nn.Conv2d)]
    with torch.no_grad():
        encoder(image)
    for handle in handles:
        handle.remove()
    replaced: dict[int, nn.Module] = {}
    for conv, norm in pairs:
        assert isinstance(norm, nn.BatchNorm2d)
        _fold_pair(conv, norm)
        replaced[id(norm)] = _what_remains(norm)
    for module in list(encoder.modules()):
        for name, child in list(module.named_children()):
            if id(child) in replaced:
                setattr(module, name, replaced[id(child)])


def _fold_pair(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


def _what_remains(norm: nn.BatchNorm2d) -> nn.Module:
    """timm's BatchNorms hold the activation that follows."""
    activation = getattr(norm, "act", None)
    return activation if isinstance(activation, nn.Module) else nn.Identity()
