"""Builds a network from a name in `presets.py`: `create_model("hrda_mitb5", num_classes=19)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from hrda_core.errors import RecipeError
from hrda_core.models.attention_heads import DAHead, ISAHead
from hrda_core.models.daformer_head import DAFormerHead
from hrda_core.models.deeplab_heads import (
    DLV2_DILATIONS,
    DLV2_REDUCED_DILATIONS,
    DeepLabV2Head,
    DeepLabV3PlusHead,
)
from hrda_core.models.hrda import HRDA
from hrda_core.models.mix_transformer import VARIANTS, MixTransformer
from hrda_core.models.plain_vit import PlainViT, is_plain_vit
from hrda_core.models.presets import NetworkConfig, resolve_preset
from hrda_core.models.segformer_head import SegFormerHead
from hrda_core.models.segmenter import Segmenter
from hrda_core.models.timm_encoder import STRIDES, TimmEncoder, can_dilate
from hrda_core.models.uper_head import UPerHead

__all__ = ["build_network", "create_model"]


def create_model(name: str, num_classes: int = 19, **overrides: Any) -> HRDA | Segmenter:
    """Build a preset with random weights (`load_imagenet_weights` brings an encoder's ImageNet weights).

    On the meta device (`with torch.device("meta"):`) nothing is allocated.

    Args:
        name: one of `list_presets()`.
        num_classes: 1 to 255.
        overrides: fields of `NetworkConfig`.

    Raises:
        RecipeError: a preset, override or encoder is unknown, or a class count or value is out of range.
    """
    return build_network(resolve_preset(name, **overrides), num_classes)


def build_network(config: NetworkConfig, num_classes: int = 19) -> HRDA | Segmenter:
    """Build the network of a configuration: `HRDA`, or `Segmenter` where `config.hrda` is false.

    Raises:
        RecipeError: as `create_model`.
    """
    if not isinstance(num_classes, int) or not 1 <= num_classes <= 255:
        raise RecipeError(f"num_classes must be a whole number in 1..255, not {num_classes!r}")
    encoder = _encoder(config)
    head = _decoder(config, encoder, num_classes, config.decoder_channels, config.fusion, embed=config.embed_channels)
    if not config.hrda:
        return Segmenter(encoder, head)
    attention = None
    if config.fixed_attention is None:
        outputs = num_classes if config.classwise_attention else 1
        # The attention decoder is a light one of the same kind: DAFormer's fusion is replaced by one 1x1 convolution.
        fusion = "conv1" if config.decoder == "daformer" else config.fusion
        width = config.attention_channels
        attention = _decoder(config, encoder, outputs, width, fusion, embed=width)
    return HRDA(
        encoder,
        head,
        attention,
        detail_crop=config.detail_crop,
        context_scale=config.context_scale,
        fixed_attention=config.fixed_attention,
        detail_scale=config.detail_scale,
        blur_detail=config.blur_detail,
        overlapping_detail=config.overlapping_detail,
    )


def _encoder(config: NetworkConfig) -> MixTransformer | TimmEncoder | PlainViT:
    if is_plain_vit(config.encoder):
        return _plain_vit(config)
    if config.tuning != "full":
        raise RecipeError(
            f"tuning '{config.tuning}' is for plain vision transformers, and encoder '{config.encoder}' is none; take "
            f"one such as vit_base_patch14_dinov2, or tuning full"
        )
    prefix, _, variant = config.encoder.partition("_")
    if prefix == "mit" and variant in VARIANTS:
        return MixTransformer(variant)
    dilated = config.output_stride < STRIDES[-1] and can_dilate(config.encoder, config.output_stride)
    return TimmEncoder(config.encoder, output_stride=config.output_stride if dilated else STRIDES[-1])


def _plain_vit(config: NetworkConfig) -> PlainViT:
    encoder = PlainViT(config.encoder, config.tuning, config.adapter_rank, config.rein_tokens)
    if config.tuning in ("lora", "rein") and config.adapter_rank > encoder.width:
        raise RecipeError(
            f"adapter_rank is {config.adapter_rank}, but the tokens of '{config.encoder}' have {encoder.width} "
            f"channels; give a smaller rank, such as 16"
        )
    if config.hrda and any(side % STRIDES[-1] for side in config.detail_crop):
        raise RecipeError(
            f"detail_crop {config.detail_crop} cuts the patches of '{config.encoder}': give two multiples of "
            f"{STRIDES[-1]} pixels, two patches"
        )
    return encoder


def _decoder(
    config: NetworkConfig, encoder: nn.Module, outputs: int, width: int, fusion: str, *, embed: int
) -> nn.Module:
    channels: Sequence[int] = encoder.channels  # type: ignore[assignment]
    strides: Sequence[int] = getattr(encoder, "strides", STRIDES)
    upsample = strides[-1] // config.output_stride
    norm = config.decoder_norm
    if config.decoder == "daformer":
        return DAFormerHead(
            channels,
            outputs,
            strides=strides,
            decoder_channels=width,
            embed_channels=embed,
            fusion=fusion,
            norm=norm,
        )
    if config.decoder in ("segformer", "uper"):
        pyramid = SegFormerHead if config.decoder == "segformer" else UPerHead
        return pyramid(channels, outputs, strides=strides, decoder_channels=width, norm=norm)
    if config.decoder in ("dlv2", "dlv2red"):
        dilations = DLV2_DILATIONS if config.decoder == "dlv2" else DLV2_REDUCED_DILATIONS
        return DeepLabV2Head(channels, outputs, strides=strides, dilations=dilations, upsample=upsample)
    dilated = {"dlv3plus": DeepLabV3PlusHead, "danet": DAHead, "isanet": ISAHead}[config.decoder]
    head: nn.Module = dilated(channels, outputs, strides=strides, decoder_channels=width, upsample=upsample, norm=norm)
    return head
