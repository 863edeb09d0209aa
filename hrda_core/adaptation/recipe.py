"""Makes the training recipe of an adaptation from the given model, its source pack and the frames.

What the papers fix for Cityscapes at 2048 x 1024 is scaled here to the size at which the model is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hrda_core.adaptation.efforts import Effort, Labels
from hrda_core.data.augmentation.transforms import AppearanceConfig, CropConfig
from hrda_core.deploy.network import WEIGHTS_FILE
from hrda_core.inference.bundle import Bundle
from hrda_core.label_files import label_space_values
from hrda_core.messages.picture_size import MAX_MEGAPIXELS
from hrda_core.models.presets import NetworkConfig, resolve_preset
from hrda_core.models.timm_encoder import PACKAGED_ENCODER
from hrda_core.trainer.geometry import Scales, fitting_crop, scales
from hrda_core.trainer.optim import OptimConfig
from hrda_core.trainer.recipe import ModelConfig, Recipe, RuntimeConfig
from hrda_core.trainer.recipe_data import SourceConfig, TargetConfig
from hrda_core.uda.feature_distance import FeatureDistanceConfig
from hrda_core.uda.masked_consistency import MicConfig
from hrda_core.uda.self_training import SelfTrainingConfig

__all__ = ["SourceFolder", "adaptation_recipe"]


@dataclass(frozen=True)
class SourceFolder:
    """The labelled images of a pack, with which the model is adapted.

    Attributes:
        name, licence: for logs and the model card.
        images, labels: folders of images and label PNGs.
        names: file that lists the images to train on.
        height, width: size of a typical image, pixels.
        rcs_min_pixels: pixels from which an image shows a class, for Rare Class Sampling.
        label_space: keys of a label space file that lead from the ids of the label files to the classes of the model;
            None = the files hold class ids of the model.
    """

    name: str
    licence: str
    images: Path
    labels: Path
    names: Path
    height: int
    width: int
    rcs_min_pixels: int
    label_space: dict[str, Any] | None = None

    @property
    def config(self) -> SourceConfig:
        """Return the source section of a recipe."""
        return SourceConfig(
            name=self.name,
            images=self.images,
            labels=self.labels,
            label_space=self.label_space,
            names=self.names,
            licence=self.licence,
            rcs_min_pixels=self.rcs_min_pixels,
        )


def adaptation_recipe(
    bundle: Bundle,
    sources: Sequence[SourceFolder],
    frames: Path,
    frame_size: tuple[int, int],
    effort: Effort,
    *,
    name: str,
    labels: Labels,
    mic: bool,
    imagenet: Path | None = None,
    runtime: RuntimeConfig | None = None,
    seed: int = 0,
    source_is_pseudo: bool = False,
    max_megapixels: int = MAX_MEGAPIXELS,
) -> Recipe:
    """Make a recipe that starts from a model.

    With the labels of a teacher it is HRDA's self-training (DAFormer's for a single-scale network). With labels that
    are given once it is supervised training, in which the labelled frames are one of the sources.

    Args:
        bundle: student, teacher and labels of the first steps start from it. In an adaptation it is the given model
            with the BatchNorm statistics of the recording.
        sources: labelled images, each a like share of the draws: those of a source pack, and of a recording whose
            frames have labels. Beside a teacher there is one.
        frames: folder of the unlabelled target images.
        labels: where the labels of these come from.
        frame_size: smallest height and smallest width of them, pixels, as the model sees them.
        mic: masked image consistency, beside a teacher.
        imagenet: file with the encoder's ImageNet weights, for the feature distance beside a teacher; None = those of
            an installed package, or no feature distance.
        source_is_pseudo: the source labels are the given model's own predictions, so the photometric augmentation of
            the "source" is left off: it would teach a look that the target does not have.
        max_megapixels: how large the frames may be, in millions of pixels.

    Raises:
        DataError: the frames are smaller than the smallest crop.
        RecipeError: the bundle has a preset or override that this release does not know.
    """
    network = resolve_preset(bundle.preset, **bundle.manifest.get("overrides", {}))
    height, width = fitting_crop(frame_size, effort.crop_share, effort.crop_limit)
    crop = (height, width)
    parts = [_part(source, scales(crop, frame_size, (source.height, source.width))) for source in sources]
    overrides = dict(bundle.manifest.get("overrides", {}))
    if network.hrda:
        overrides["detail_crop"] = [height // 2, width // 2]
    recipe = Recipe(
        name=name,
        source=parts[0] if len(parts) == 1 else parts,
        label_space=label_space_values(bundle.label_space),
        model=ModelConfig(
            preset=bundle.preset,
            overrides=overrides,
            imagenet=network.encoder == PACKAGED_ENCODER,
            backbone=imagenet,
            weights=bundle.file(WEIGHTS_FILE),
            # The paper's encoder has no BatchNorm; this is nearest, and best in all of docs/results/adaptation.md.
            freeze_encoder_norm=True,
        ),
        # The frames are resized as the node resizes them, the source images alike: sharpness tells no domain.
        crop=CropConfig(height, width, interpolation=bundle.scale.interpolation),
        appearance=_PLAIN if source_is_pseudo else _ROBUST,
        optim=OptimConfig(lr=6e-5 if network.encoder.startswith(("mit_", "vit_")) else 1e-4, warmup=effort.warmup),
        runtime=runtime or RuntimeConfig(),
        logit_adjustment=_adjustment(bundle),
        iterations=effort.iterations,
        average=effort.alpha,
        checkpoint_every=20,
        pictures_every=max(1, effort.iterations // 4),
        seed=seed,
        paper=[f"warm start from {bundle.name}", f"{effort.iterations} steps on crops of {height} x {width}"],
    )
    if labels == "once":
        return replace(
            recipe, paper=[*recipe.paper, "the frames have labels that the start gave them once, no teacher"]
        )
    distance, notes = _feature_distance(network, imagenet)
    smallest, largest = scales(crop, frame_size, None).target
    return replace(
        recipe,
        method="self_training",
        target=TargetConfig(
            name="frames of the recording, unlabelled",
            path=frames,
            resize=bundle.scale.resize,
            long_side=bundle.scale.long_side,
            scale_min=smallest,
            scale_max=largest,
            max_megapixels=max_megapixels,
            licence="as the recording",
        ),
        feature_distance=distance,
        self_training=SelfTrainingConfig(
            alpha=effort.alpha,
            # Patches of 64 pixels of a crop of 1024 (MIC paper); 32 is the smallest that hides an object.
            mic=MicConfig(block=64 if min(crop) >= 512 else 32) if mic else None,
        ),
        paper=[*recipe.paper, *notes],
    )


def _part(source: SourceFolder, scale: Scales) -> SourceConfig:
    """A source whose objects are about as large as those of the frames."""
    return replace(source.config, scale_min=scale.source[0], scale_max=scale.source[1])


def _adjustment(bundle: Bundle) -> float:
    """The strength of the given model's logit adjustment, according to its manifest."""
    settings: Any = bundle.manifest.get("provenance", {}).get("settings", {})
    value = settings.get("logit_adjustment", 0.0) if isinstance(settings, dict) else 0.0
    return float(value) if isinstance(value, int | float) else 0.0


_ROBUST = AppearanceConfig(photometric=True, gamma=1.5, darken=0.4)
"""Photometric augmentation of the source: the control that gains most, so adaptation has it too."""

_PLAIN = AppearanceConfig(photometric=False)


def _feature_distance(network: NetworkConfig, imagenet: Path | None) -> tuple[FeatureDistanceConfig, list[str]]:
    if imagenet is not None or network.encoder == PACKAGED_ENCODER:
        return FeatureDistanceConfig(), []
    return FeatureDistanceConfig(weight=0.0), [
        f"no feature distance: no ImageNet weights of encoder {network.encoder} are at hand (--imagenet FILE)"
    ]
