"""What a training run is made of. A recipe file (YAML) fills these dataclasses with what differs from the defaults."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hrda_core.data.transforms import AppearanceConfig, CropConfig
from hrda_core.errors import RecipeError
from hrda_core.trainer.optim import OptimConfig

__all__ = ["ModelConfig", "Recipe", "SourceConfig"]


@dataclass(frozen=True)
class ModelConfig:
    """The network and what it starts from.

    Attributes:
        preset: name of a network, see `hrda_core.models.PRESETS`.
        overrides: fields of the preset to replace, see `hrda_core.models.presets.NetworkConfig`.
        imagenet: start the encoder from the ImageNet weights that an installed package brings.
        backbone: start the encoder from this file instead (ImageNet files of NVlabs, mmsegmentation, Hugging Face).
        allow_random_backbone: let an encoder start from random weights, wholly or in part; else that is an error.
        weights: start the whole network from this `model.safetensors` of an earlier run instead.
        freeze_encoder_norm: keep the encoder's BatchNorm layers (statistics, scale, shift) as ImageNet left them.
        detail_weight: weight of the detail crop's own loss (lambda_d of the paper).
    """

    preset: str = "hrda_lite"
    overrides: dict[str, Any] = field(default_factory=dict)
    imagenet: bool = True
    backbone: Path | None = None
    allow_random_backbone: bool = False
    weights: Path | None = None
    freeze_encoder_norm: bool = False
    detail_weight: float = 0.1


@dataclass(frozen=True)
class SourceConfig:
    """A labelled data set and how it is sampled.

    Attributes:
        name: for the model card.
        images, labels: folders; labels are PNGs of train ids with the images' relative names.
        licence: of the data, for the model card.
        rcs_temperature: T of Rare Class Sampling; 0 = uniform sampling.
        rcs_min_pixels: an image counts for a class with more than this many of its pixels, at native size.
        rcs_min_crop_ratio: a crop must show more than this share of `rcs_min_pixels`.
    """

    name: str
    images: Path
    labels: Path
    licence: str = "unknown"
    rcs_temperature: float = 0.01
    rcs_min_pixels: int = 3000
    rcs_min_crop_ratio: float = 0.5


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Attributes:
        name: of the run and of the exported model.
        limits: what the model is not good for, for the model card.
        source: labelled data.
        model, crop, appearance, optim: see there.
        iterations: optimiser steps.
        batch_size: source images a step.
        average: the exported weights are an exponential moving average with this decay; 0 = the last weights.
        seed: all randomness derives from it.
        checkpoint_every: iterations between checkpoints.
    """

    name: str
    source: SourceConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    iterations: int = 40000
    batch_size: int = 2
    average: float = 0.999
    seed: int = 0
    checkpoint_every: int = 100
    limits: str = ""

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.batch_size < 1 or self.checkpoint_every < 1:
            raise RecipeError("iterations, batch_size and checkpoint_every must be at least 1")
        if not 0 <= self.average < 1:
            raise RecipeError(f"average is a decay in 0..1 (1 excluded), not {self.average}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and checkpoints."""
        values: dict[str, Any] = _plain(asdict(self))
        return values


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
