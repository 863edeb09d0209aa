"""Named networks: the table of the papers' benchmark, and the values that define a network.

`create_model(name, **overrides)` (`create.py`) builds a row; every field of `NetworkConfig` can be overridden. Any row
becomes its HRDA version with `hrda=True`, and any encoder of timm can be put under any decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from hrda_core.errors import RecipeError, proposal

__all__ = ["DECODERS", "PRESETS", "TUNINGS", "NetworkConfig", "list_presets", "resolve_preset"]

DECODERS: Mapping[str, str] = {
    "daformer": "DAFormer with its fusion variants (daformer_head.py)",
    "segformer": "SegFormer (segformer_head.py)",
    "uper": "UPerNet (uper_head.py)",
    "dlv2": "DeepLabV2, dilations 6, 12, 18, 24 (deeplab_heads.py)",
    "dlv2red": "DeepLabV2 as UDA papers use it, dilations 6, 12 (deeplab_heads.py)",
    "dlv3plus": "DeepLabV3+ (deeplab_heads.py)",
    "danet": "DANet (attention_heads.py)",
    "isanet": "ISANet (attention_heads.py)",
}
"""Decoder -> what it is."""

TUNINGS: Mapping[str, str] = {
    "full": "every weight of the encoder learns",
    "frozen": "the encoder's weights rest; of a plain ViT what makes its pyramid learns",
    "lora": "as frozen, with updates of low rank beside the projections of a plain ViT's attention (adapters.py)",
    "rein": "as frozen, with the tokens of Rein behind the blocks of a plain ViT (adapters.py)",
}
"""How an encoder is tuned -> what it is."""


@dataclass(frozen=True)
class NetworkConfig:
    """All values that define a network.

    Attributes:
        encoder: `mit_b0` to `mit_b5`, or a timm name: a network with maps at strides 4 to 32, or a plain ViT.
        hrda: put two scales and a learned attention around encoder and decoder; else the decoder's logits are the
            result.
        decoder: one of `DECODERS`.
        output_stride: stride at which the decoder wants the deepest map: 32, or 8 for the decoders made for dilated
            CNNs. A timm CNN is dilated to it; for other encoders the deepest map is upsampled (`neck.py`).
        decoder_channels: width of the decoder (256 in DAFormer; DeepLabV2 has none).
        embed_channels: width of each embedded level in the DAFormer decoder.
        attention_channels: width of the attention decoder and of each of its embedded levels.
        fusion: fusion of the DAFormer decoder, see `DAFormerHead`.
        decoder_norm: BatchNorm in the decoder.
        detail_crop: HRDA: height and width of the training's detail crop, pixels.
        context_scale, detail_scale: HRDA: sizes of the images of both branches relative to the image.
        classwise_attention: HRDA: one attention map for each class, instead of one for all.
        fixed_attention, blur_detail, overlapping_detail: HRDA's ablation switches, see `HRDA`.
        tuning: how a plain ViT learns, one of `TUNINGS`; other encoders know `full` alone.
        adapter_rank: rank of LoRA's updates, or of Rein's tokens.
        rein_tokens: Rein's tokens of each block.
        mean, std: normalisation of the encoder's input, RGB on the 0..255 scale.

    Raises:
        RecipeError: a value has the wrong kind or range.
    """

    encoder: str
    hrda: bool = False
    decoder: str = "daformer"
    output_stride: int = 32
    decoder_channels: int = 256
    embed_channels: int = 256
    attention_channels: int = 256
    fusion: str = "sepaspp"
    decoder_norm: bool = True
    detail_crop: tuple[int, int] = (512, 512)
    context_scale: float = 0.5
    detail_scale: float = 1.0
    classwise_attention: bool = True
    fixed_attention: float | None = None
    blur_detail: bool = False
    overlapping_detail: bool = True
    tuning: str = "full"
    adapter_rank: int = 16
    rein_tokens: int = 100
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)

    def __post_init__(self) -> None:
        if self.decoder not in DECODERS:
            raise RecipeError(f"decoder '{self.decoder}' is not known; {proposal(self.decoder, DECODERS)}")
        for name in ("decoder_channels", "embed_channels", "attention_channels"):
            width = getattr(self, name)
            if not isinstance(width, int) or width < 1:
                raise RecipeError(f"{name} must be a whole number, 1 or more, not {width!r}")
        if self.tuning not in TUNINGS:
            raise RecipeError(f"tuning '{self.tuning}' is not known; {proposal(self.tuning, TUNINGS)}")
        for name, least in (("adapter_rank", 1), ("rein_tokens", 2)):
            number = getattr(self, name)
            if not isinstance(number, int) or number < least:
                raise RecipeError(f"{name} must be a whole number, {least} or more, not {number!r}")
        if self.output_stride not in (8, 16, 32):
            raise RecipeError(f"output_stride must be 8, 16 or 32, not {self.output_stride!r}")
        if self.fusion != "sepaspp" and self.decoder != "daformer":
            raise RecipeError(f"fusion '{self.fusion}' belongs to decoder 'daformer', not to '{self.decoder}'")
        # YAML has lists only.
        for name, length in (("detail_crop", 2), ("mean", 3), ("std", 3)):
            object.__setattr__(self, name, _numbers(name, getattr(self, name), length))


def _numbers(name: str, value: Any, length: int) -> tuple[Any, ...]:
    numbers = tuple(value) if isinstance(value, list | tuple) else ()
    if len(numbers) != length or not all(isinstance(number, int | float) for number in numbers):
        raise RecipeError(f"{name} must be {length} numbers, not {value!r}")
    return numbers


_R101 = "resnet101c"
_CNN: dict[str, Any] = {"output_stride": 8, "decoder_norm": False}
"""The papers' study builds CNN decoders after a dilated encoder and without BatchNorm, which hurts adaptation."""

PRESETS: Mapping[str, NetworkConfig] = {
    # The papers' networks: HRDA (TPAMI 2024) and DAFormer (CVPR 2022) on MiT-B0 to B5; B5 is the one of their tables.
    **{f"hrda_mitb{n}": NetworkConfig(f"mit_b{n}", hrda=True) for n in range(6)},
    **{f"daformer_mitb{n}": NetworkConfig(f"mit_b{n}") for n in range(6)},
    # Domain generalization: a smaller detail crop, for two stylised copies of the batch must fit the memory.
    "hrda_dg_mitb5": NetworkConfig("mit_b5", hrda=True, detail_crop=(384, 384)),
    # Decoder study (DAFormer paper, table of decoders). `conv1` is SegFormer with 256 channels.
    "segformer_mitb5": NetworkConfig("mit_b5", decoder="segformer", decoder_channels=768),
    "upernet_mitb5": NetworkConfig("mit_b5", decoder="uper", decoder_channels=512),
    "daformer_conv1_mitb5": NetworkConfig("mit_b5", fusion="conv1"),
    "daformer_aspp_mitb5": NetworkConfig("mit_b5", fusion="aspp"),
    "daformer_isa_mitb5": NetworkConfig("mit_b5", fusion="isa"),
    "daformer_sepaspp_bottleneck_mitb5": NetworkConfig("mit_b5", fusion="sepaspp_bottleneck"),
    # Architecture study: CNNs. The undilated UPerNet is the one of its own paper.
    "dlv2_r101": NetworkConfig(_R101, decoder="dlv2red", output_stride=8),
    "dlv2full_r101": NetworkConfig(_R101, decoder="dlv2", output_stride=8),
    "deeplabv3plus_r101": NetworkConfig(_R101, decoder="dlv3plus", decoder_channels=512, **_CNN),
    "danet_r101": NetworkConfig(_R101, decoder="danet", decoder_channels=512, **_CNN),
    "isanet_r101": NetworkConfig(_R101, decoder="isanet", decoder_channels=512, **_CNN),
    "segformer_r101": NetworkConfig(_R101, decoder="segformer", decoder_channels=768, output_stride=8),
    "upernet_r101": NetworkConfig(_R101, decoder="uper", decoder_channels=512, decoder_norm=False),
    # Encoder and decoder swapped: a CNN decoder on the transformer, whose deepest map is upsampled.
    "dlv2_mitb5": NetworkConfig("mit_b5", decoder="dlv2red", output_stride=8),
    "deeplabv3plus_mitb5": NetworkConfig("mit_b5", decoder="dlv3plus", decoder_channels=512, **_CNN),
    "danet_mitb5": NetworkConfig("mit_b5", decoder="danet", decoder_channels=512, **_CNN),
    "isanet_mitb5": NetworkConfig("mit_b5", decoder="isanet", decoder_channels=512, **_CNN),
    # HRDA around DeepLabV2 (HRDA paper, "HRDA with other UDA methods").
    "hrda_dlv2_r101": NetworkConfig(_R101, hrda=True, decoder="dlv2red", output_stride=8),
    # Encoders of today: DINOv2 (arXiv 2304.07193), a plain vision transformer, under HRDA's decoder and attention.
    **{
        f"hrda_dinov2_{size[0]}": NetworkConfig(f"vit_{size}_patch14_dinov2", hrda=True)
        for size in ("small", "base", "large")
    },
    # Small enough for two CPU cores: the shipped bundle. Its encoder's ImageNet weights expect inputs in -1..1.
    "hrda_lite": NetworkConfig(
        "tf_efficientnet_lite0",
        hrda=True,
        decoder_channels=64,
        embed_channels=64,
        attention_channels=64,
        detail_crop=(160, 224),
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
    ),
}


def list_presets() -> list[str]:
    """Return the names that `create_model` takes."""
    return sorted(PRESETS)


def resolve_preset(name: str, **overrides: Any) -> NetworkConfig:
    """Return the configuration of a preset with single values replaced.

    Raises:
        RecipeError: a preset or override is unknown (the message proposes the nearest name), or a value is out of
            range.
    """
    if name not in PRESETS:
        raise RecipeError(f"network preset '{name}' is not known; {proposal(name, list_presets())}")
    known = [field.name for field in fields(NetworkConfig)]
    for key in overrides:
        if key not in known:
            raise RecipeError(f"network presets have no override '{key}'; {proposal(key, known)}")
    return replace(PRESETS[name], **overrides)
