"""A narrow DAFormer decoder cut out of a wide one: the start of a distillation.

Channels are kept by the weight that they have for the next layer, from the classifier backwards. For a channel with
scale g (of its BatchNorm) and outgoing weights w, g^2 |w|^2 is its share of the next layer's variance, as far as the
channels are independent. What is cut is missing from every sum, but BatchNorm in train mode scales each sum back, so
that the narrow decoder says roughly what the wide one says before a single step (docs/research/distillation.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hrda_core.models.conv_modules import ConvNormAct, SeparableConvNormAct
from hrda_core.models.daformer_head import DAFormerHead

__all__ = ["can_cut", "cut_decoder"]


def can_cut(narrow: nn.Module, wide: nn.Module) -> bool:
    """Return whether `cut_decoder` accepts the two decoders.

    They must be DAFormer decoders of one fusion (`sepaspp`, `aspp` or `conv1`), with the same inputs and outputs, and
    the first must not be wider than the second.
    """
    if not isinstance(narrow, DAFormerHead) or not isinstance(wide, DAFormerHead):
        return False
    if narrow.resize_first or wide.resize_first or _layers(narrow) != _layers(wide) or not _layers(wide):
        return False
    ours, theirs = (_inputs(head) for head in (narrow, wide))
    fits = all(mine <= given for mine, given in zip(_widths(narrow), _widths(wide), strict=True))
    return fits and ours == theirs and narrow.conv_seg.out_channels == wide.conv_seg.out_channels


@torch.no_grad()
def cut_decoder(narrow: DAFormerHead, wide: DAFormerHead) -> None:
    """Fill the narrow decoder with the heaviest channels of the wide one.

    Args:
        narrow, wide: two decoders for which `can_cut` holds; `wide` is only read.
    """
    embed, width = _widths(narrow)
    last = _last(wide)
    out = _heaviest(wide.conv_seg.weight.square().sum((0, 2, 3)) * _scale(last), width)
    narrow.conv_seg.weight.copy_(wide.conv_seg.weight[:, out])
    assert narrow.conv_seg.bias is not None
    assert wide.conv_seg.bias is not None
    narrow.conv_seg.bias.copy_(wide.conv_seg.bias)
    branches = _branches(wide)
    if not branches:
        columns = _cut_embeddings(narrow, wide, last.conv.weight[out].square().sum((0, 2, 3)), embed)
        _cut(_last(narrow), last, out, columns)
        return
    kept = _heaviest_of_branches(last, branches, out, width)
    _cut(
        _last(narrow), last, out, torch.cat([rows + place * last.conv.out_channels for place, rows in enumerate(kept)])
    )
    weight = torch.stack([_incoming(branch, rows) for branch, rows in zip(branches, kept, strict=True)]).sum(0)
    columns = _cut_embeddings(narrow, wide, weight, embed)
    for ours, theirs, rows in zip(_branches(narrow), branches, kept, strict=True):
        _cut_branch(ours, theirs, rows, columns)


def _heaviest_of_branches(last: ConvNormAct, branches: Sequence[nn.Module], out: Tensor, width: int) -> list[Tensor]:
    """Output channels to keep of each branch, by what the kept outputs of the bottleneck make of them."""
    parts = last.conv.weight[out].square().sum((0, 2, 3)).chunk(len(branches))
    return [_heaviest(part * _scale(_output(branch)), width) for part, branch in zip(parts, branches, strict=True)]


def _incoming(branch: nn.Module, rows: Tensor) -> Tensor:
    """Weight of each input channel of a branch in its kept outputs."""
    if isinstance(branch, SeparableConvNormAct):
        pointwise = branch.pointwise_conv.conv.weight[rows].square().sum((0, 2, 3))
        return pointwise * _scale(branch.depthwise_conv)
    assert isinstance(branch, ConvNormAct)
    return branch.conv.weight[rows].square().sum((0, 2, 3))


def _cut_embeddings(narrow: DAFormerHead, wide: DAFormerHead, weight: Tensor, embed: int) -> Tensor:
    """Keep the heaviest channels of each level; returns their places among all levels together."""
    places, before = [], 0
    for ours, theirs in zip(narrow.embed_layers, wide.embed_layers, strict=True):
        mine, given = ours.proj, theirs.proj
        assert isinstance(mine, nn.Linear)
        assert isinstance(given, nn.Linear)
        part = weight[before : before + given.out_features]
        kept = _heaviest(part * given.weight.square().sum(1), embed)
        mine.weight.copy_(given.weight[kept])
        mine.bias.copy_(given.bias[kept])
        places.append(kept + before)
        before += given.out_features
    return torch.cat(places)


def _cut_branch(ours: nn.Module, theirs: nn.Module, rows: Tensor, columns: Tensor) -> None:
    if isinstance(ours, SeparableConvNormAct) and isinstance(theirs, SeparableConvNormAct):
        _cut(ours.depthwise_conv, theirs.depthwise_conv, columns, None)
        _cut(ours.pointwise_conv, theirs.pointwise_conv, rows, columns)
        return
    assert isinstance(ours, ConvNormAct)
    assert isinstance(theirs, ConvNormAct)
    _cut(ours, theirs, rows, columns)


def _cut(ours: ConvNormAct, theirs: ConvNormAct, rows: Tensor, columns: Tensor | None) -> None:
    """Copy output channels `rows` from input channels `columns` (None: all, of a depth-wise convolution)."""
    weight = theirs.conv.weight[rows]
    ours.conv.weight.copy_(weight if columns is None else weight[:, columns])
    if ours.conv.bias is not None and theirs.conv.bias is not None:
        ours.conv.bias.copy_(theirs.conv.bias[rows])
    if ours.bn is None or theirs.bn is None:
        return
    given = theirs.bn.state_dict()
    for name, value in ours.bn.state_dict().items():
        value.copy_(given[name] if value.ndim == 0 else given[name][rows])


def _heaviest(weight: Tensor, count: int) -> Tensor:
    """Indices of the largest entries, ascending."""
    return weight.topk(count).indices.sort().values


def _scale(layer: ConvNormAct) -> Tensor:
    """Variance that a layer gives to each output channel before its ReLU: g^2, or 1 without BatchNorm."""
    return layer.conv.weight.new_ones(layer.conv.out_channels) if layer.bn is None else layer.bn.weight.square()


def _output(branch: nn.Module) -> ConvNormAct:
    layer = branch.pointwise_conv if isinstance(branch, SeparableConvNormAct) else branch
    assert isinstance(layer, ConvNormAct)
    return layer


def _last(head: DAFormerHead) -> ConvNormAct:
    """The layer whose output is classified."""
    layer = head.fuse_layer if isinstance(head.fuse_layer, ConvNormAct) else head.fuse_layer.bottleneck
    assert isinstance(layer, ConvNormAct)
    return layer


def _branches(head: DAFormerHead) -> list[nn.Module]:
    """Parallel dilated branches; none where the fusion is one convolution."""
    if isinstance(head.fuse_layer, ConvNormAct):
        return []
    branches = head.fuse_layer.aspp_modules
    assert isinstance(branches, nn.ModuleList)
    return list(branches)


def _layers(head: DAFormerHead) -> list[str]:
    """What the fusion is made of, by name; empty for fusions that cannot be cut."""
    known = isinstance(head.fuse_layer, ConvNormAct) or hasattr(head.fuse_layer, "aspp_modules")
    return [name for name, _ in head.fuse_layer.named_parameters()] if known else []


def _inputs(head: DAFormerHead) -> list[int]:
    return [int(layer.proj.in_features) for layer in head.embed_layers]  # type: ignore[union-attr,arg-type]


def _widths(head: DAFormerHead) -> tuple[int, int]:
    """Width of the embedded levels and of the decoder."""
    return int(head.embed_layers[0].proj.out_features), head.conv_seg.in_channels  # type: ignore[union-attr,arg-type]
