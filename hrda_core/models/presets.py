"""Named networks. A preset is a plain dictionary of `build` arguments; overrides replace single ones."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import nn

from hrda_core.errors import RecipeError
from hrda_core.models.daformer_head import DAFormerHead
from hrda_core.models.hrda import HRDA
from hrda_core.models.timm_encoder import TimmEncoder

__all__ = ["PRESETS", "NetworkConfig", "create_model", "list_presets", "resolve_preset"]


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that shapes an HRDA network.

    Attributes:
        encoder: timm name.
        decoder_channels, embed_channels: widths of the DAFormer decoder (256 in the paper).
        attention_channels: width of the attention decoder; it shares `embed_channels`.
        fusion: decoder fusion, see `DAFormerHead`.
        detail_crop: height and width of the training's detail crop, pixels.
        context_scale: size of the context image relative to the image.
        classwise_attention, fixed_attention: see `HRDA`.
        mean, std: normalisation of the encoder's input, RGB on the 0..255 scale.
    """

    encoder: str
    decoder_channels: int = 256
    embed_channels: int = 256
    attention_channels: int = 256
    fusion: str = "sepaspp"
    detail_crop: tuple[int, int] = (512, 512)
    context_scale: float = 0.5
    classwise_attention: bool = True
    fixed_attention: float | None = None
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)


PRESETS: Mapping[str, NetworkConfig] = {
    # Small enough for two CPU cores: the shipped bundle. Its encoder's ImageNet weights expect inputs in -1..1.
    "hrda_lite": NetworkConfig(
        encoder="tf_efficientnet_lite0",
        decoder_channels=64,
        embed_channels=64,
        attention_channels=64,
        detail_crop=(160, 224),
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
    ),
}


def list_presets() -> list[str]:
    """Names that `create_model` takes."""
    return sorted(PRESETS)


def resolve_preset(name: str, **overrides: Any) -> NetworkConfig:
    """The configuration of a preset with single values replaced.

    Raises:
        RecipeError: unknown preset or override; the message proposes the nearest name.
    """
    if name not in PRESETS:
        raise RecipeError(f"network preset '{name}' is not known{_nearest(name, list_presets())}")
    known = [field.name for field in fields(NetworkConfig)]
    for key in overrides:
        if key not in known:
            raise RecipeError(f"network presets have no override '{key}'{_nearest(key, known)}")
    return replace(PRESETS[name], **overrides)


def create_model(name: str, num_classes: int = 19, **overrides: Any) -> nn.Module:
    """Build a preset with random weights (the encoder's ImageNet weights: `load_imagenet_weights`).

    Args:
        name: one of `list_presets()`.
        num_classes: 1 to 255.
        overrides: fields of `NetworkConfig`.

    Raises:
        RecipeError: unknown preset, override or encoder, or a class count out of range.
    """
    if not 1 <= num_classes <= 255:
        raise RecipeError(f"num_classes must lie in 1..255, not {num_classes}")
    config = resolve_preset(name, **overrides)
    backbone = TimmEncoder(config.encoder)
    head = DAFormerHead(
        backbone.channels,
        num_classes,
        decoder_channels=config.decoder_channels,
        embed_channels=config.embed_channels,
        fusion=config.fusion,
    )
    return HRDA(
        backbone,
        head,
        num_classes,
        detail_crop=config.detail_crop,
        context_scale=config.context_scale,
        embed_channels=config.embed_channels,
        attention_channels=config.attention_channels,
        classwise_attention=config.classwise_attention,
        fixed_attention=config.fixed_attention,
    )


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"
