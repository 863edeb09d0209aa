"""The dataclasses of a training recipe. A recipe file (YAML) fills them with what differs from the defaults."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hrda_core.data.augmentation.transforms import AppearanceConfig, CropConfig
from hrda_core.errors import RecipeError, proposal, shown
from hrda_core.trainer.optim import OptimConfig
from hrda_core.trainer.recipe_data import NO_SOURCE, SourceConfig, TargetConfig, ValidationConfig
from hrda_core.uda.distillation import DistillationConfig
from hrda_core.uda.domain_generalization import DgConfig
from hrda_core.uda.feature_distance import FeatureDistanceConfig
from hrda_core.uda.self_training import SelfTrainingConfig
from hrda_core.uda.supervised import LossConfig

__all__ = [
    "METHODS",
    "ModelConfig",
    "Recipe",
    "RuntimeConfig",
    "check_keys",
    "score_name",
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
        reset: parts of the network that do not start from `weights` but anew: `classifier` = all that depends on the
            number of classes, for weights of a network with other classes.
        freeze_encoder_norm: keep the encoder's BatchNorm layers (statistics, scale, shift) as they start.
    """

    preset: str = "hrda_lite"
    overrides: dict[str, Any] = field(default_factory=dict)
    imagenet: bool = True
    backbone: Path | None = None
    allow_random_backbone: bool = False
    weights: Path | None = None
    reset: list[Literal["classifier"]] = field(default_factory=list)
    freeze_encoder_norm: bool = False

    def __post_init__(self) -> None:
        if self.reset and self.weights is None:
            raise RecipeError("model.reset says what is not taken from model.weights; give model.weights too")


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
        channels_last: memory format of the convolutions. None = channels last on a CPU where the encoder is a CNN of
            timm, which makes a step faster by a fifth there; it may help on GPUs with tensor cores.
        gradient_checkpointing: compute encoder blocks again in the backward pass: less memory, a third more time.
        sync_norm: BatchNorm statistics over all processes, so that their number does not change a result.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"
    threads: int = 0
    workers: int = 0
    compile: bool = False
    channels_last: bool | None = None
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
        source: labelled data: one data set, or a list of several, of which each sample's is drawn by its share.
        target: unlabelled data, for methods that adapt.
        validation: data sets to score on.
        label_space: classes of the network: a label space file, or its keys and values. None = those of the source's
            label space file, else the 19 of Cityscapes. `hrda_core.trainer.spaces` finds them.
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
        logit_adjustment: strength, 0..1, of what raises the logits of rare classes wherever a trained network is scored
            or exported: strength x -log of the class's share of the source's pixels (`hrda_core.models.class_bias`).
            Training does not see it.
        average: `supervised` and `distillation`: the exported weights are an exponential moving average with this
            decay; 0 = the last weights.
        seed: all randomness derives from it.
        checkpoint_every, evaluate_every, pictures_every: iterations; 0 = at the end only.
        keep_best: `VALIDATION/SCORE`: keep the networks at the highest score of the student beside the last ones;
            VALIDATION is the name of a validation set, SCORE one of `mean_iou`, `boundary_f`, `pixel_accuracy` or the
            name of a class, for its IoU. Empty = not. It wants `evaluate_every`.
        limits: what the model is not good for, for the model card.
        paper: sentences for the report on how the recipe departs from the paper's.
    """

    name: str
    source: SourceConfig | list[SourceConfig]
    method: Method = "supervised"
    target: TargetConfig | None = None
    validation: list[ValidationConfig] = field(default_factory=list)
    label_space: Path | dict[str, Any] | None = None
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
    logit_adjustment: float = 0.0
    average: float = 0.999
    seed: int = 0
    checkpoint_every: int = 100
    evaluate_every: int = 0
    pictures_every: int = 0
    keep_best: str = ""
    limits: str = ""
    paper: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.batch_size < 1:
            raise RecipeError("iterations and batch_size must be at least 1")
        if min(self.checkpoint_every, self.evaluate_every, self.pictures_every) < 0:
            raise RecipeError("checkpoint_every, evaluate_every and pictures_every are 0 (at the end only) or more")
        if not 0 <= self.average < 1:
            raise RecipeError(f"average is a decay in 0..1 (1 excluded), not {self.average}")
        if not 0 <= self.logit_adjustment <= 1:
            raise RecipeError(f"logit_adjustment is a strength in 0..1, not {self.logit_adjustment}")
        if self.method not in METHODS:
            raise RecipeError(f"method '{self.method}' is not known; choose one of {', '.join(METHODS)}")
        if self.keep_best:
            self._check_keep_best()
        if self.method in NEEDS_TARGET and self.target is None:
            raise RecipeError(f"method '{self.method}' adapts to unlabelled images: give target.path, or target.layout")
        if self.method == "distillation" and self.distillation is None:
            raise RecipeError("method 'distillation' learns from a larger network: give distillation.guide")
        self._check_sources()
        self._check_validation()

    @property
    def sources(self) -> tuple[SourceConfig, ...]:
        """The labelled data sets, one or several."""
        return tuple(self.source) if isinstance(self.source, list) else (self.source,)

    def _check_validation(self) -> None:
        names = [part.name for part in self.validation]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise RecipeError(f"two validation sets have the name '{twice}'; give each its own")

    def _check_sources(self) -> None:
        names = [part.name for part in self.sources]
        if not names:
            raise RecipeError("source is an empty list; give one data set or several")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise RecipeError(f"two sources have the name '{twice}'; give each its own")
        if NO_SOURCE not in [part.layout for part in self.sources]:
            return
        if len(names) > 1:
            raise RecipeError(f"layout '{NO_SOURCE}' stands for no labelled images, but there are {len(names)} sources")
        if self.logit_adjustment:
            raise RecipeError(
                f"logit_adjustment counts the source's labels, but layout '{NO_SOURCE}' has none; leave it off"
            )
        if self.method != "distillation":
            raise RecipeError(
                f"method '{self.method}' learns from labelled images: give source.images and source.labels"
            )

    def _check_keep_best(self) -> None:
        names, (where, _) = [config.name for config in self.validation], score_name(self.keep_best)
        if where not in names:
            raise RecipeError(
                f"keep_best '{self.keep_best}': validation set '{where}' is not known; "
                f"{proposal(where, names) if names else 'the recipe has none'}"
            )
        if not self.evaluate_every:
            raise RecipeError("keep_best compares scores, but evaluate_every is 0: there is a score at the end alone")

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
        targets = () if self.target is None else self.target.parts
        return {
            "recipe": self.name,
            "method": self.method,
            "source_data": _joined(part.name for part in self.sources),
            "source_licence": _joined(part.licence for part in self.sources),
            "target_data": _joined(part.name for part in targets) + ": images alone, no labels" if targets else "",
            "target_licence": _joined(part.licence for part in targets),
            "exported_network": exported_network,
            "logit_adjustment": self._adjusted,
            "iterations": self.iterations,
            "seed": self.seed,
            "deviations": "; ".join(self.paper),
            "settings": self.to_dict(),
        }

    @property
    def _adjusted(self) -> str:
        strength = self.logit_adjustment
        return f"{strength} x -log of each class's share of the source's pixels, added to its logit" if strength else ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for YAML and checkpoints."""
        values: dict[str, Any] = _plain(asdict(self))
        return values


def score_name(text: str) -> tuple[str, str]:
    """Split `VALIDATION/SCORE` into the name of the validation set and that of the score.

    Raises:
        RecipeError: there are not two names.
    """
    where, _, score = text.rpartition("/")
    if not where or not score:
        raise RecipeError(f"keep_best is VALIDATION/SCORE, for example 'cityscapes/mean_iou', not '{text}'")
    return where, score


def _joined(texts: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(texts))


_GONE = {
    "source.more": "write several sources as a list, source: [{name: a, share: 2, ...}, {name: b, share: 1, ...}]",
    "source.repeat": "write several sources as a list and give each a share of the draws",
}
"""Keys of earlier releases, and what stands in their place."""


def check_keys(values: Mapping[Any, Any], known: type = Recipe, where: str = "") -> None:
    """Refuse unknown keys of a recipe file, and what is no value of a key, before anything else reads it.

    Raises:
        RecipeError: a key is unknown, and the nearest known one is proposed; a key
            has no value, or a value where it has keys of its own.
    """
    hints = get_type_hints(known)
    names = [entry.name for entry in fields(known)]
    for key, value in values.items():
        if key not in names:
            cure = _GONE.get(f"{where}{key}") or proposal(str(key), names, where)
            raise RecipeError(f"recipe key '{where}{shown(key)}' is not known; {cure}")
        inner = _dataclass_in(hints[key])
        if value is None and type(None) not in get_args(hints[key]):
            raise RecipeError(f"recipe key '{where}{key}' has no value; give one, or leave the key out")
        if inner is None or value is None:
            continue
        for entry in value if isinstance(value, list) and not is_dataclass(hints[key]) else [value]:
            if not isinstance(entry, Mapping):
                keys = ", ".join(part.name for part in fields(inner))
                raise RecipeError(f"recipe key '{where}{key}' has keys of its own ({keys}), not '{shown(entry)}'")
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
