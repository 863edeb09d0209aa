"""The networks that `hrda distill` works on, the larger and the slim one, and the recipe of the training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hrda_core.data.augmentation.transforms import AppearanceConfig, CropConfig
from hrda_core.errors import BundleError, DataError, RecipeError
from hrda_core.inference.bundle import MANIFEST_NAME, Bundle, file_record
from hrda_core.input_scale import InputScale
from hrda_core.label_files import label_space_values
from hrda_core.labels import LabelSpace
from hrda_core.models.presets import NetworkConfig, resolve_preset
from hrda_core.models.timm_encoder import PACKAGED_ENCODER
from hrda_core.trainer.geometry import CROP_STEP, fitting_crop, scales
from hrda_core.trainer.loading import RECIPE_NAME, load_recipe
from hrda_core.trainer.optim import OptimConfig
from hrda_core.trainer.recipe import ModelConfig, Recipe, RuntimeConfig
from hrda_core.trainer.recipe_data import NO_SOURCE, SourceConfig, TargetConfig
from hrda_core.trainer.run_use import run_use
from hrda_core.trainer.spaces import recipe_space
from hrda_core.trainer.state import WEIGHTS_NAME
from hrda_core.uda.distillation import DistillationConfig, GuideConfig
from hrda_core.uda.supervised import LossConfig

__all__ = ["Larger", "Schedule", "Slim", "distillation_recipe", "open_larger"]

_CROP_SHARE = 0.75
"""Of an image's sides: crops that leave room for other places and sizes, and still show a street."""


@dataclass(frozen=True)
class Larger:
    """The larger network, opened, from which the slim one learns.

    Attributes:
        guide: the network as the recipe names it.
        scale: how images are resized before it sees them.
        grid: rows and columns of detail tiles.
        provenance: origin of the model, plain values; empty where nothing is recorded.
        label_space: its classes, which the slim network learns.
    """

    guide: GuideConfig
    scale: InputScale
    grid: tuple[int, int]
    provenance: Mapping[str, Any]
    label_space: LabelSpace

    @property
    def config(self) -> NetworkConfig:
        """All values that define the network."""
        return resolve_preset(self.guide.preset, **self.guide.overrides)


@dataclass(frozen=True)
class Slim:
    """The network that learns: the larger one with other widths.

    Attributes:
        decoder_channels: width of the decoder.
        embed_channels, attention_channels: see `NetworkConfig`; 0 = as the decoder.
        encoder: name of the encoder; empty = the larger network's, whose weights it then starts from.
        backbone: file of weights for another encoder; None = those that an installed package brings.
        allow_random_backbone: let another encoder start from random weights.
    """

    decoder_channels: int
    embed_channels: int = 0
    attention_channels: int = 0
    encoder: str = ""
    backbone: Path | None = None
    allow_random_backbone: bool = False

    def overrides(self, larger: Larger) -> dict[str, Any]:
        """Return the overrides of the larger network's preset that give the slim one."""
        widths = {
            "decoder_channels": self.decoder_channels,
            "embed_channels": self.embed_channels or self.decoder_channels,
            "attention_channels": self.attention_channels or self.decoder_channels,
        }
        if self.encoder in ("", larger.config.encoder):
            return {**larger.guide.overrides, **widths}
        mean, std = _normalisation(self.encoder)
        return {**larger.guide.overrides, **widths, "encoder": self.encoder, "mean": mean, "std": std}


@dataclass(frozen=True)
class Schedule:
    """Length and options of the training.

    Attributes:
        iterations, batch_size, lr, seed: see `Recipe` and `OptimConfig`.
        start, temperature, plan, attention: see `DistillationConfig`.
        detail, context: see `LossConfig`.
        crop: height and width, pixels, multiples of 64; None = chosen by the size of the images.
        runtime: device, threads, precision.
    """

    iterations: int = 2000
    batch_size: int = 2
    lr: float = 1e-4
    seed: int = 0
    start: Literal["slices", "encoder"] = "slices"
    temperature: float = 2.0
    plan: str = "overlap"
    attention: float = 0.0
    detail: float = 0.1
    context: float = 0.0
    crop: tuple[int, int] | None = None
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def open_larger(path: Path) -> Larger:
    """Read a bundle, or the folder of a finished training run.

    Raises:
        BundleError, DataError, RecipeError: it is neither, is damaged, or has no weights.
    """
    if (path / RECIPE_NAME).is_file() and not (path / MANIFEST_NAME).is_file():
        return _larger_of_run(path)
    bundle = Bundle.open(path)
    if WEIGHTS_NAME not in bundle.manifest["files"]:
        raise BundleError(f"model bundle '{path}' has no {WEIGHTS_NAME}; it can be run but not learnt from")
    guide = _guide(bundle.name, bundle.preset, bundle.manifest.get("overrides", {}), bundle.file(WEIGHTS_NAME))
    grid = bundle.tile_grid
    return Larger(guide, bundle.scale, grid, bundle.manifest.get("provenance", {}), bundle.label_space)


def distillation_recipe(
    larger: Larger,
    slim: Slim,
    schedule: Schedule,
    *,
    name: str,
    target: TargetConfig,
    image_size: tuple[int, int],
    source: SourceConfig | None = None,
    source_size: tuple[int, int] | None = None,
) -> Recipe:
    """Make the recipe of the run.

    Args:
        target: images without labels; their resizing and scales are set here.
        image_size: smallest height and smallest width of them, pixels, as the larger network sees them.
        source: labelled images; None = none.
        source_size: height and width of a typical labelled image.

    Raises:
        DataError: the images are smaller than the smallest crop.
        RecipeError: a preset, encoder or value is unknown.
    """
    overrides = slim.overrides(larger)
    crop = schedule.crop or fitting_crop(image_size, _CROP_SHARE)
    if any(side < CROP_STEP or side % CROP_STEP for side in crop):
        raise RecipeError(f"--crop is a height and width in multiples of {CROP_STEP} pixels, not {crop[0]} {crop[1]}")
    network = resolve_preset(larger.guide.preset, **overrides)
    if network.hrda:
        overrides["detail_crop"] = [crop[0] // 2, crop[1] // 2]
    same_encoder = network.encoder == larger.config.encoder
    packaged = network.encoder == PACKAGED_ENCODER and slim.backbone is None
    scale = scales(crop, image_size, source_size)
    return Recipe(
        name=name,
        method="distillation",
        label_space=label_space_values(larger.label_space),
        source=source or SourceConfig(name=NO_SOURCE, layout=NO_SOURCE),
        target=TargetConfig(
            **vars(target)
            | {"resize": larger.scale.resize, "long_side": larger.scale.long_side}
            | {"scale_min": scale.target[0], "scale_max": 1.0},
        ),
        model=ModelConfig(
            preset=larger.guide.preset,
            overrides=overrides,
            imagenet=packaged,
            backbone=slim.backbone,
            allow_random_backbone=slim.allow_random_backbone,
            # Statistics of the encoder that is taken over are those that its weights were trained with.
            freeze_encoder_norm=same_encoder or not slim.allow_random_backbone,
        ),
        # Images are resized as the node resizes them.
        crop=CropConfig(
            *crop,
            scale_min=scale.source[0],
            scale_max=scale.source[1],
            interpolation=larger.scale.interpolation,
        ),
        appearance=AppearanceConfig(photometric=True, gamma=1.5, darken=0.4),
        distillation=DistillationConfig(
            larger.guide,
            schedule.start,
            schedule.temperature,
            plan=schedule.plan,
            attention=schedule.attention,
        ),
        loss=LossConfig(schedule.detail, schedule.context),
        optim=OptimConfig(lr=schedule.lr, warmup=min(100, schedule.iterations // 10)),
        runtime=schedule.runtime,
        iterations=schedule.iterations,
        batch_size=schedule.batch_size,
        # The last twentieth of the run, so that a short one does not average its beginning in.
        average=max(0.0, min(0.999, 1 - 20 / schedule.iterations)),
        seed=schedule.seed,
        checkpoint_every=50,
        pictures_every=max(1, schedule.iterations // 4),
        limits=str(larger.provenance.get("limits", "")),
        paper=[f"distilled from {larger.guide.name}: no labels of the target, {schedule.iterations} steps"],
    )


def _larger_of_run(run: Path) -> Larger:
    recipe = load_recipe(run)
    if not (run / WEIGHTS_NAME).is_file():
        raise DataError(f"run '{run}' has no {WEIGHTS_NAME}: it is not finished; resume it, or give a bundle")
    guide = _guide(recipe.name, recipe.model.preset, recipe.model.overrides, run / WEIGHTS_NAME)
    use = run_use(recipe, run, hrda=resolve_preset(recipe.model.preset, **recipe.model.overrides).hrda)
    provenance = {"limits": recipe.limits} if recipe.limits else {}
    return Larger(guide, use.scale, (2, 2), provenance, recipe_space(recipe))


def _guide(name: str, preset: str, overrides: Mapping[str, Any], weights: Path) -> GuideConfig:
    return GuideConfig(name, weights.resolve(), preset, dict(overrides), str(file_record(weights)["sha256"]))


def _normalisation(encoder: str) -> tuple[list[float], list[float]]:
    """Mean and std that an encoder's ImageNet weights expect, RGB on the 0..255 scale."""
    import timm

    known = timm.get_pretrained_cfg(encoder, allow_unregistered=True) if timm.is_model(encoder) else None
    if known is None or not known.mean or not known.std:
        return list(NetworkConfig(encoder).mean), list(NetworkConfig(encoder).std)
    return [255 * value for value in known.mean], [255 * value for value in known.std]
