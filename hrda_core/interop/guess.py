"""Finds out which network a checkpoint holds, from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from hrda_core.errors import CheckpointError
from hrda_core.models.mix_transformer import VARIANTS
from hrda_core.models.presets import PRESETS

__all__ = ["Guess", "count_classes", "describe", "guess_network"]


@dataclass(frozen=True)
class Guess:
    """A network that fits a checkpoint.

    Attributes:
        preset: name for `create_model`.
        num_classes: outputs of the classifier.
        overrides: preset fields that differ from the paper's network of that name.
    """

    preset: str
    num_classes: int
    overrides: Mapping[str, Any] = field(default_factory=dict)


def guess_network(tensors: Mapping[str, Tensor], source: str) -> Guess:
    """Name the preset of a network whose tensors carry our names (`take_network`).

    Raises:
        CheckpointError: encoder or decoder cannot be recognised from names and shapes.
    """
    encoder, family, classes = _encoder(tensors), _family(tensors), count_classes(tensors)
    if encoder and not _has_decoder(tensors):
        raise CheckpointError(
            f"checkpoint '{source}' holds an encoder alone (MiT-{encoder.upper()}), which cannot segment; "
            f"load it into the encoder of a network with hrda_core.interop.load_backbone"
        )
    if not encoder or not family or not classes:
        raise CheckpointError(
            f"checkpoint '{source}' holds {describe(tensors)}, which names and shapes do not tell apart; "
            f"name the network with --preset ('hrda models' lists them)"
        )
    if family == "hrda" and not any(name.startswith("decode_head.scale_attention.") for name in tensors):
        raise CheckpointError(
            f"checkpoint '{source}' is an HRDA network without scale attention; its fixed attention is not in the "
            f"file, so load it from Python: create_model('hrda_mit{encoder}', fixed_attention=...), load_mmseg"
        )
    overrides = _overrides(tensors, family, classes)
    preset = f"{family}_mit{encoder}"
    if preset not in PRESETS:
        preset, overrides = f"{family}_mitb5", {"encoder": f"mit_{encoder}", **overrides}
    own = asdict(PRESETS[preset])
    return Guess(preset, classes, {key: value for key, value in overrides.items() if own[key] != value})


def describe(tensors: Mapping[str, Tensor]) -> str:
    """Describe in a few words what a checkpoint holds, for messages."""
    encoder, family, classes = _encoder(tensors), _family(tensors), count_classes(tensors)
    names = {"hrda": "HRDA", "daformer": "DAFormer", "segformer": "SegFormer"}
    network = names.get(family, "another decoder" if _has_decoder(tensors) else "no decoder")
    backbone = f"MiT-{encoder.upper()}" if encoder else "an encoder other than MiT"
    return f"{network} on {backbone}" + (f" with {classes} classes" if classes else "")


def _has_decoder(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("decode_head.") for name in tensors)


def _family(tensors: Mapping[str, Tensor]) -> str:
    if any(name.startswith("decode_head.head.embed_layers.") for name in tensors):
        return "hrda"
    if any(name.startswith("decode_head.embed_layers.") for name in tensors):
        return "daformer"
    return "segformer" if any(name.startswith("decode_head.linear_c.") for name in tensors) else ""


def count_classes(tensors: Mapping[str, Tensor]) -> int:
    """Return the number of outputs of the network's classifier, or 0 if it is none that is known here."""
    for classifier in ("decode_head.head.conv_seg", "decode_head.linear_pred", "decode_head.conv_seg"):
        weight = tensors.get(f"{classifier}.weight")
        if weight is not None and weight.ndim == 4:
            return int(weight.shape[0])
    return 0


def _encoder(tensors: Mapping[str, Tensor]) -> str:
    """Variant of a MiT encoder (`b0` to `b5`) or an empty text."""
    prefix = "backbone." if any(name.startswith("backbone.") for name in tensors) else ""
    first = tensors.get(f"{prefix}patch_embed1.proj.weight")
    blocks = {tuple(map(int, m.groups())) for name in tensors if (m := re.match(rf"{prefix}block(\d)\.(\d+)\.", name))}
    depths = tuple(sum(stage == block[0] for block in blocks) for stage in (1, 2, 3, 4))
    channels = 0 if first is None or first.ndim != 4 else first.shape[0]
    return next((n for n, v in VARIANTS.items() if v.depths == depths and v.channels[0] == channels), "")


def _overrides(tensors: Mapping[str, Tensor], family: str, classes: int) -> dict[str, Any]:
    """Widths, fusion and attention of the decoders, as preset fields."""
    if family == "segformer":
        return {"decoder_channels": int(tensors["decode_head.linear_pred.weight"].shape[1])}
    head = "decode_head.head." if family == "hrda" else "decode_head."
    found: dict[str, Any] = {"decoder_channels": int(tensors[f"{head}conv_seg.weight"].shape[1])}
    embed = tensors.get(f"{head}embed_layers.0.proj.weight")
    if embed is not None:
        found["embed_channels"] = int(embed.shape[0])
    attention = tensors.get("decode_head.scale_attention.conv_seg.weight")
    if family == "hrda" and attention is not None:
        found["attention_channels"] = int(attention.shape[1])
        if attention.shape[0] == 1 != classes:
            found["classwise_attention"] = False
    found["fusion"] = _fusion(tensors, head)
    return found


def _fusion(tensors: Mapping[str, Tensor], head: str) -> str:
    """Fusion of a DAFormer decoder, told by a module that only it has."""
    signs = {
        "embed_layers.3.1.bottleneck.": "sepaspp_bottleneck",
        "fuse_layer.conv.": "conv1",
        "fuse_layer.aspp_modules.1.conv.": "aspp",
        "fuse_layer.aspp_modules.": "sepaspp",
    }
    return next((f for sign, f in signs.items() if any(name.startswith(head + sign) for name in tensors)), "isa")
