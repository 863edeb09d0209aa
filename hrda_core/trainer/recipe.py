"""The dataclasses of a training recipe. A recipe file (YAML) fills them with what differs from the defaults."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hrda_core.data.augmentation.transforms import AppearanceConfig, CropConfig, MarginConfig
from hrda_core.errors import RecipeError, proposal
from hrda_core.trainer.optim import OptimConfig
from hrda_core.uda.distillation import DistillationConfig
from hrda_core.uda.domain_generalization import DgConfig
from hrda_core.uda.feature_distance import FeatureDistanceConfig
from hrda_core.uda.self_training import SelfTrainingConfig
from hrda_core.uda.supervised import LossConfig
from hrda_core.window_plan import PlanChoice

__all__ = [
    "METHODS",
    "NO_SOURCE",
    "LabelledConfig",
    "ModelConfig",
    "Recipe",
    "RuntimeConfig",
    "SourceConfig",
    "TargetConfig",
    "ValidationConfig",
    "check_keys",
]

Method = Literal["supervised", "self_training", "domain_generalization", "entropy", "adversarial", "distillation"]

METHODS: Mapping[str, str] = {
    "supervised": "labelled images only: source-only, or the upper bound with target labels",
    "self_training": "DAFormer, HRDA, MIC: EMA teacher, pseudo-labels, ClassMix",
    "domain_generalization": "labelled images only, styles hallucinated",
    "entropy": "baseline: entropy of the target prediction is minimised",
    "adversarial": "baseline: a discriminator tells source from target predictions",
    "distillation": "a slim network learns the predictions of a larger one on unlabelled images",
}
"""Method -> what it is."""

NEEDS_TARGET = ("self_training", "entropy", "adversarial", "distillation")

NO_SOURCE = "none"
"""Layout of `source` that stands for no labelled images; for distillation only."""


@dataclass(frozen=True)
class ModelConfig:
    """The network and its initial weights.

    Attributes:
        preset: name of a network, see `hrda_core.models.PRESETS`.
        overrides: fields of the preset to replace, see `hrda_core.models.presets.NetworkConfig`.
        imagenet: start the encoder from the ImageNet weights that an installed package brings.
        backbone: start the encoder from this file instead (ImageNet files of NVlabs, mmsegmentation, Hugging Face).
        allow_random_backbone: let an encoder start from random weights, wholly or in part; else that is an error.
        weights: start the whole network from this `model.safetensors` (of a run or a bundle) instead; the encoder of
            the feature distance still starts from `backbone` or `imagenet`.
        freeze_encoder_norm: keep the encoder's BatchNorm layers (statistics, scale, shift) as they start.
    """

    preset: str = "hrda_lite"
    overrides: dict[str, Any] = field(default_factory=dict)
    imagenet: bool = True
    backbone: Path | None = None
    allow_random_backbone: bool = False
    weights: Path | None = None
    freeze_encoder_norm: bool = False


@dataclass(frozen=True)
class LabelledConfig:
    """The place of labelled images.

    Attributes:
        name: name for logs and model cards.
        layout: a row of `hrda_core.data.datasets.layouts`; `folders` = `images` and `labels` below; `none`
            (distillation) = no labelled images.
        root, split: folder and part of a data set as downloaded.
        images, labels: folders; labels are PNGs of the images' relative names.
        label_space: YAML file that translates the label files' ids; None = train ids.
        names: text file that lists the images to use, one on each line, relative to `images`.
        licence: licence of the data, for the model card.
    """

    name: str
    layout: str = "folders"
    root: Path | None = None
    split: str = "train"
    images: Path | None = None
    labels: Path | None = None
    label_space: Path | None = None
    names: Path | None = None
    licence: str = "unknown"


@dataclass(frozen=True)
class SourceConfig(LabelledConfig):
    """A labelled data set and how it is sampled.

    Attributes:
        rcs_temperature: T of Rare Class Sampling; 0 = uniform sampling.
        rcs_min_pixels: an image counts for a class with more than this many of its pixels, at native size.
        rcs_min_crop_ratio: a crop must show more than `rcs_min_pixels` times this; 0.5 for DAFormer's crops of
            512, 2 for HRDA's of 1024 in the paper.
    """

    rcs_temperature: float = 0.01
    rcs_min_pixels: int = 3000
    rcs_min_crop_ratio: float = 0.5


@dataclass(frozen=True)
class TargetConfig:
    """Images without labels.

    Attributes:
        name: name for logs and model cards.
        path: folder of images, video file, or recording (rosbag2, ROS 1).
        layout, root, split: instead of `path`, a data set as downloaded; its labels are not opened.
        topic: image topic of a recording; empty = the only one.
        names: text file that lists the images of a folder to use.
        resize: largest width and height of an image before cropping, ratio kept; None = native size.
        long_side: larger images are shrunk to this longer side before cropping, pixels; 0 = never.
        scale_min, scale_max: range of the random factor before cropping.
        margins: borders whose pseudo-labels are not trusted, pixels after `resize` and `long_side`.
        licence: licence of the data, for the model card.
    """

    name: str
    path: Path | None = None
    layout: str = ""
    root: Path | None = None
    split: str = "train"
    topic: str = ""
    names: Path | None = None
    resize: tuple[int, int] | None = None
    long_side: int = 0
    scale_min: float = 1.0
    scale_max: float = 1.0
    margins: MarginConfig = field(default_factory=MarginConfig)
    licence: str = "unknown"


@dataclass(frozen=True)
class ValidationConfig(LabelledConfig):
    """Labelled images on which the networks are scored. They are never trained on.

    Attributes:
        groups: score in these groups of classes; empty = every class.
        plan: window plan; empty = `overlap` for HRDA, `whole` for others.
        window: `crop` of the plan `nested` or `slide`: height and width of its outer windows, pixels.
        resize: largest width and height of an image before prediction, ratio kept; None = native size. Labels keep
            their size.
        limit: at most this many images, evenly spaced; 0 = all.
    """

    split: str = "val"
    groups: str = ""
    plan: str = ""
    window: tuple[int, int] | None = None
    resize: tuple[int, int] | None = None
    limit: int = 0

    def __post_init__(self) -> None:
        if self.plan or self.window:
            self.choice(hrda=True)  # a mistake shall show now, and not after the first thousand iterations

    def choice(self, *, hrda: bool) -> PlanChoice:
        """Return the window plan for an HRDA network, or for another one.

        Raises:
            BackendError: the plan is not known, or has no outer windows.
        """
        return PlanChoice(self.plan or ("overlap" if hrda else "whole"), crop=self.window)


@dataclass(frozen=True)
class RuntimeConfig:
    """How the run is carried out. With `fp32` nothing here changes a result beyond round-off.

    Attributes:
        device: `auto`, `cpu` or `cuda`.
        precision: `fp32`; `bf16` or `fp16` = matrix products and convolutions in half precision, weights and losses in
            single; `fp64` for checks.
        threads: CPU threads of PyTorch; 0 = PyTorch's choice.
        workers: processes that load data; 0 = one thread of this process.
        compile: `torch.compile` the encoder; the first iterations take minutes.
        channels_last: memory format of the encoder's convolutions. Helps on GPUs with tensor cores; the dilated
            depth-wise convolutions of the decoder become several times slower on a CPU.
        gradient_checkpointing: compute encoder blocks again in the backward pass: less memory, a third more time.
        sync_norm: BatchNorm statistics over all processes, so that their number does not change a result.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"
    threads: int = 0
    workers: int = 0
    compile: bool = False
    channels_last: bool = False
    gradient_checkpointing: bool = False
    sync_norm: bool = True

    def __post_init__(self) -> None:
        if self.workers < 0 or self.threads < 0:
            raise RecipeError(f"runtime: workers and threads are 0 or more, not {self.workers} and {self.threads}")


@dataclass(frozen=True)
class Recipe:
    """A whole training run.

    Attributes:
        name: name of the run and of the exported model.
        method: training method, see `METHODS`.
        source: labelled data.
        target: unlabelled data, for methods that adapt.
        validation: data sets to score on.
        model, crop, appearance, optim, runtime: see the classes of these. `crop` and `appearance` are for source
            images.
        loss: weights of HRDA's loss terms.
        feature_distance: for `self_training` and `domain_generalization`; off in the others.
        self_training, generalization: options of these methods.
        distillation: options of the method; None for the others.
        entropy_weight: weight of the target term of `entropy`.
        adversarial_weight: weight of the target term of `adversarial`.
        iterations: optimiser steps.
        batch_size: source images in a step, over all processes; as many target images.
        average: `supervised` and `distillation`: the exported weights are an exponential moving average with this
            decay; 0 = the last weights.
        seed: all randomness derives from it.
        checkpoint_every, evaluate_every, pictures_every: iterations; 0 = at the end only.
        limits: what the model is not good for, for the model card.
        paper: sentences for the report on how the recipe departs from the paper's.
    """

    name: str
    source: SourceConfig
    method: Method = "supervised"
    target: TargetConfig | None = None
    validation: list[ValidationConfig] = field(default_factory=list)
    model: ModelConfig = field(default_factory=ModelConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    appearance: AppearanceConfig = field(default_factory=AppearanceConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    feature_distance: FeatureDistanceConfig = field(default_factory=FeatureDistanceConfig)
    self_training: SelfTrainingConfig = field(default_factory=SelfTrainingConfig)
    generalization: DgConfig = field(default_factory=DgConfig)
    distillation: DistillationConfig | None = None
    entropy_weight: float = 0.001
    adversarial_weight: float = 0.001
    optim: OptimConfig = field(default_factory=OptimConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    iterations: int = 40000
    batch_size: int = 2
    average: float = 0.999
    seed: int = 0
    checkpoint_every: int = 100
    evaluate_every: int = 0
    pictures_every: int = 0
    limits: str = ""
    paper: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.batch_size < 1:
            raise RecipeError("iterations and batch_size must be at least 1")
        if min(self.checkpoint_every, self.evaluate_every, self.pictures_every) < 0:
            raise RecipeError("checkpoint_every, evaluate_every and pictures_every are 0 (at the end only) or more")
        if not 0 <= self.average < 1:
            raise RecipeError(f"average is a decay in 0..1 (1 excluded), not {self.average}")
        if self.method not in METHODS:
            raise RecipeError(f"method '{self.method}' is not known; choose one of {', '.join(METHODS)}")
        if self.method in NEEDS_TARGET and self.target is None:
            raise RecipeError(f"method '{self.method}' adapts to unlabelled images: give target.path, or target.layout")
        if self.method == "distillation" and self.distillation is None:
            raise RecipeError("method 'distillation' learns from a larger network: give distillation.guide")
        if self.source.layout == NO_SOURCE and self.method != "distillation":
            raise RecipeError(
                f"method '{self.method}' learns from labelled images: give source.images and source.labels"
            )

    @property
    def needs_imagenet_encoder(self) -> bool:
        """Whether the method uses the feature distance."""
        return self.method in ("self_training", "domain_generalization") and self.feature_distance.weight > 0

    @property
    def averages(self) -> bool:
        """Whether the exported weights are a moving average of the student's."""
        return self.method in ("supervised", "distillation") and self.average > 0

    def provenance(self, exported_network: str) -> dict[str, Any]:
        """Return what a bundle's manifest and model card say of this run: plain values, empty where there is none."""
        target = self.target
        return {
            "recipe": self.name,
            "method": self.method,
            "source_data": self.source.name,
            "source_licence": self.source.licence,
            "target_data": "" if target is None else f"{target.name}: images alone, no labels",
            "target_licence": "" if target is None else target.licence,
            "exported_network": exported_network,
            "iterations": self.iterations,
            "seed": self.seed,
            "deviations": "; ".join(self.paper),
            "settings": self.to_dict(),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for YAML and checkpoints."""
        values: dict[str, Any] = _plain(asdict(self))
        return values


def check_keys(values: Mapping[str, Any], known: type = Recipe, where: str = "") -> None:
    """Refuse unknown keys of a recipe file, before anything else reads it.

    Raises:
        RecipeError: a key is unknown; the nearest known one is proposed.
    """
    hints = get_type_hints(known)
    names = [entry.name for entry in fields(known)]
    for key, value in values.items():
        if key not in names:
            raise RecipeError(f"recipe key '{where}{key}' is not known; {proposal(key, names, where)}")
        inner = _dataclass_in(hints[key])
        if inner is None:
            continue
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, Mapping):
                check_keys(entry, inner, f"{where}{key}.")


def _dataclass_in(hint: Any) -> type | None:
    """The dataclass of a field that is one, an optional one, or a list of them."""
    if isinstance(hint, type) and is_dataclass(hint):
        return hint
    if get_origin(hint) in (Union, types.UnionType, list):
        return next((found for part in get_args(hint) if (found := _dataclass_in(part))), None)
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
