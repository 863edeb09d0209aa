"""Tables from the names under which other codes store the networks to our names.

Ours are those of the released DAFormer, HRDA and MIC checkpoints, so for these only one network has to be selected. In
a table, `{s}` is a stage counted from 0, `{S}` the same counted from 1, `{b}` a block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["of_timm", "select_network", "translate_encoder", "translate_segmenter"]

_NETWORKS = {"student": "model.", "teacher": "ema_model.", "ImageNet encoder of the training": "imnet_model."}
"""Networks of a self-training checkpoint and the beginning of their names."""

_MMSEG = {
    "layers.{s}.0.projection": "patch_embed{S}.proj",
    "layers.{s}.0.norm": "patch_embed{S}.norm",
    "layers.{s}.1.{b}.norm1": "block{S}.{b}.norm1",
    "layers.{s}.1.{b}.attn.attn": "block{S}.{b}.attn.qkv",
    "layers.{s}.1.{b}.attn.attn.out_proj": "block{S}.{b}.attn.proj",
    "layers.{s}.1.{b}.attn.sr": "block{S}.{b}.attn.sr",
    "layers.{s}.1.{b}.attn.norm": "block{S}.{b}.attn.norm",
    "layers.{s}.1.{b}.norm2": "block{S}.{b}.norm2",
    "layers.{s}.1.{b}.ffn.layers.0": "block{S}.{b}.mlp.fc1",
    "layers.{s}.1.{b}.ffn.layers.1": "block{S}.{b}.mlp.dwconv.dwconv",
    "layers.{s}.1.{b}.ffn.layers.4": "block{S}.{b}.mlp.fc2",
    "layers.{s}.2": "norm{S}",
}

_HUGGING_FACE = {
    "encoder.patch_embeddings.{s}.proj": "patch_embed{S}.proj",
    "encoder.patch_embeddings.{s}.layer_norm": "patch_embed{S}.norm",
    "encoder.block.{s}.{b}.layer_norm_1": "block{S}.{b}.norm1",
    "encoder.block.{s}.{b}.attention.self.query": "block{S}.{b}.attn.q",
    "encoder.block.{s}.{b}.attention.self.key": "block{S}.{b}.attn.k",
    "encoder.block.{s}.{b}.attention.self.value": "block{S}.{b}.attn.v",
    "encoder.block.{s}.{b}.attention.self.sr": "block{S}.{b}.attn.sr",
    "encoder.block.{s}.{b}.attention.self.layer_norm": "block{S}.{b}.attn.norm",
    "encoder.block.{s}.{b}.attention.output.dense": "block{S}.{b}.attn.proj",
    "encoder.block.{s}.{b}.layer_norm_2": "block{S}.{b}.norm2",
    "encoder.block.{s}.{b}.mlp.dense1": "block{S}.{b}.mlp.fc1",
    "encoder.block.{s}.{b}.mlp.dwconv.dwconv": "block{S}.{b}.mlp.dwconv.dwconv",
    "encoder.block.{s}.{b}.mlp.dense2": "block{S}.{b}.mlp.fc2",
    "encoder.layer_norm.{s}": "norm{S}",
}

_HUGGING_FACE_5 = {
    "stages.{s}.patch_embeddings.proj": "patch_embed{S}.proj",
    "stages.{s}.patch_embeddings.layer_norm": "patch_embed{S}.norm",
    "stages.{s}.blocks.{b}.layernorm_before": "block{S}.{b}.norm1",
    "stages.{s}.blocks.{b}.attention.q_proj": "block{S}.{b}.attn.q",
    "stages.{s}.blocks.{b}.attention.k_proj": "block{S}.{b}.attn.k",
    "stages.{s}.blocks.{b}.attention.v_proj": "block{S}.{b}.attn.v",
    "stages.{s}.blocks.{b}.attention.sequence_reduction.sequence_reduction": "block{S}.{b}.attn.sr",
    "stages.{s}.blocks.{b}.attention.sequence_reduction.layer_norm": "block{S}.{b}.attn.norm",
    "stages.{s}.blocks.{b}.attention.o_proj": "block{S}.{b}.attn.proj",
    "stages.{s}.blocks.{b}.layernorm_after": "block{S}.{b}.norm2",
    "stages.{s}.blocks.{b}.mlp.fc1": "block{S}.{b}.mlp.fc1",
    "stages.{s}.blocks.{b}.mlp.dwconv.dwconv": "block{S}.{b}.mlp.dwconv.dwconv",
    "stages.{s}.blocks.{b}.mlp.fc2": "block{S}.{b}.mlp.fc2",
    "stages.{s}.layer_norm": "norm{S}",
}

_SEGFORMER_HEADS = {
    "decode_head.linear_projections.{s}.proj": "decode_head.linear_c.{s}.proj",  # Hugging Face, transformers 5
    "decode_head.batch_norm": "decode_head.linear_fuse.bn",  # Hugging Face
    "decode_head.classifier": "decode_head.linear_pred",  # Hugging Face
    "decode_head.linear_c1.proj": "decode_head.linear_c.0.proj",  # NVlabs, as the next three
    "decode_head.linear_c2.proj": "decode_head.linear_c.1.proj",
    "decode_head.linear_c3.proj": "decode_head.linear_c.2.proj",
    "decode_head.linear_c4.proj": "decode_head.linear_c.3.proj",
}


def select_network(tensors: Mapping[str, Tensor], which: str) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    """Take one network out of a self-training checkpoint, which holds several under the prefixes `_NETWORKS`.

    Only names that *start* with the prefix belong to the network: `ema_model.x` is not `model.x`.

    Args:
        tensors: all tensors of the file.
        which: `student` or `teacher`.

    Returns:
        the network without the prefix (the whole file, if it has no such prefixes), and what was left out by reason.
        Names outside all networks stay as they are, with a `/` before them so that they fit nowhere.
    """
    holding = {network: tuple(n for n in tensors if n.startswith(prefix)) for network, prefix in _NETWORKS.items()}
    if not any(holding.values()):
        return dict(tensors), {}
    prefix = _NETWORKS[which]
    chosen = {name.removeprefix(prefix): tensors[name] for name in holding[which]}
    left_out = {f"{network}, not asked for": names for network, names in holding.items() if names and network != which}
    accounted = {name for names in holding.values() for name in names}
    chosen.update({f"/{name}": value for name, value in tensors.items() if name not in accounted})
    return chosen, left_out


def translate_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a MiT encoder from NVlabs', mmsegmentation's or Hugging Face's names to ours; unknown names stay.

    Keys and values that are stored apart, or together with the queries, become our `attn.kv`; mmsegmentation's 1x1
    convolutions of the Mix-FFN become linear maps.
    """
    renamed = _rename(tensors, {**_MMSEG, **_HUGGING_FACE, **_HUGGING_FACE_5})
    merged: dict[str, Tensor] = {}
    for name, value in renamed.items():
        for new, part in _as_ours(name, value, renamed):
            merged[new if new not in merged else f"/{new}"] = part
    return merged


def of_timm(encoder: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a file of timm's network to the names of the encoder that is built around it; unknown names stay."""
    own = encoder.state_dict().keys()
    return {
        next((known for known in (name, f"body.{name}", f"body.model.{name}") if known in own), name): value
        for name, value in tensors.items()
    }


def _as_ours(name: str, value: Tensor, tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """What one renamed tensor becomes: itself, two parts, one part of a pair, or nothing (its pair holds it)."""
    if ".attn.qkv.in_proj_" in name and value.ndim and value.shape[0] % 3 == 0:
        stem, leaf = name.split("qkv.in_proj_")
        channels = value.shape[0] // 3
        return [(f"{stem}q.{leaf}", value[:channels]), (f"{stem}kv.{leaf}", value[channels:])]
    key, val = name.replace(".attn.v.", ".attn.k."), name.replace(".attn.k.", ".attn.v.")
    if key != val and key in tensors and val in tensors and tensors[key].shape == tensors[val].shape != ():
        pair = torch.cat([tensors[key], tensors[val]])
        return [(name.replace(".attn.k.", ".attn.kv."), pair)] if name == key else []
    if name.endswith((".mlp.fc1.weight", ".mlp.fc2.weight")) and value.ndim == 4 and value.shape[2:] == (1, 1):
        return [(name, value.flatten(1))]
    return [(name, value)]


def translate_segmenter(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a whole network to our names, `backbone.*` and `decode_head.*`; names that are ours already stay.

    The SegFormer decoders of NVlabs and Hugging Face concatenate the levels deepest first, ours finest first: the
    input channels of `linear_fuse` change places.
    """
    encoder, rest = {}, {}
    for name, value in tensors.items():
        prefix = next((p for p in ("backbone.", "segformer.") if name.startswith(p)), None)
        if prefix:
            encoder[name.removeprefix(prefix)] = value
        else:
            rest[name] = value
    head = _rename(rest, _SEGFORMER_HEADS)
    deepest_first = {"decode_head.linear_c1.proj.weight", "decode_head.linear_fuse.weight"} & rest.keys()
    if "decode_head.linear_fuse.weight" in head:
        head["decode_head.linear_fuse.conv.weight"] = head.pop("decode_head.linear_fuse.weight")
    fuse = head.get("decode_head.linear_fuse.conv.weight")
    if deepest_first and fuse is not None and fuse.ndim == 4 and fuse.shape[1] % 4 == 0:
        head["decode_head.linear_fuse.conv.weight"] = torch.cat(fuse.chunk(4, dim=1)[::-1], dim=1)
    return {**{f"backbone.{name}": value for name, value in translate_encoder(encoder).items()}, **head}


def _rename(tensors: Mapping[str, Tensor], table: Mapping[str, str]) -> dict[str, Tensor]:
    """Names whose module part stands in `table` get the new one; two names that would become one stay as they are."""
    patterns = [(_compile(theirs), ours) for theirs, ours in table.items()]
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        module, _, leaf = name.rpartition(".")
        new = next((_expand(ours, found) for pattern, ours in patterns if (found := pattern.fullmatch(module))), module)
        target = f"{new}.{leaf}" if new else leaf
        renamed[name if target in tensors or target in renamed else target] = value
    return renamed


def _compile(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{s\}", r"(?P<s>\d)").replace(r"\{b\}", r"(?P<b>\d+)")
    return re.compile(escaped)


def _expand(template: str, found: re.Match[str]) -> str:
    groups = found.groupdict()
    return template.format(s=groups.get("s", ""), S=int(groups.get("s") or 0) + 1, b=groups.get("b", ""))
