"""Opens, counts and audits the data sets of a recipe, and makes samples of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hrda_core.data.augmentation.transforms import CropConfig, check_target_size
from hrda_core.data.datasets.audit import LabelAudit, audit
from hrda_core.data.datasets.class_statistics import ClassStatistics, class_statistics
from hrda_core.data.datasets.labelled import ImageLabelPairs, open_labelled, open_unlabelled_layout
from hrda_core.data.frames import UnlabelledFrames, evenly_spaced
from hrda_core.data.image_files import read_names
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError, RecipeError
from hrda_core.labels import CITYSCAPES19, EVALUATION_GROUPS, ClassGroups
from hrda_core.models.presets import resolve_preset
from hrda_core.trainer.recipe import NO_SOURCE, LabelledConfig, Recipe, TargetConfig, ValidationConfig
from hrda_core.trainer.samples import Samples, SourceSamples, TargetSamples
from hrda_core.uda.rare_class_sampling import RareClassSampler

__all__ = ["Sources", "open_pairs", "open_sources", "open_validation", "validation_groups"]


@dataclass(frozen=True)
class Sources:
    """Opened data of a run.

    Attributes:
        samples: batches of this process by iteration.
        audit: result of the check of the source labels; None without labelled images.
        description: lines for the log.
    """

    samples: Samples
    audit: LabelAudit | None
    description: tuple[str, ...]


def open_sources(
    recipe: Recipe,
    rank: int,
    processes: int,
    say: Callable[[str], None],
    count: Callable[[int, int], None] = lambda done, total: None,
) -> Sources:
    """Open source and target, count classes (once: the counts are cached), and audit the labels.

    Args:
        say: takes a line of text.
        count: called with label files counted and to be counted.

    Raises:
        DataError: a folder or file cannot be used, the audit stops on the labels, or a target is smaller than the crop.
        RecipeError: the batch does not divide among the processes.
    """
    if recipe.batch_size % processes:
        raise RecipeError(f"batch_size {recipe.batch_size} does not divide among {processes} processes")
    network = resolve_preset(recipe.model.preset, **recipe.model.overrides)
    pairs = open_pairs(recipe.source)
    frames = None if recipe.target is None else open_target(recipe.target)
    for validation in recipe.validation:  # a wrong folder shall not wait for the first scores to be found
        open_validation(validation)
        validation_groups(validation)
    statistics, checked = _checked_labels(pairs, say, count) if pairs else (None, None)
    source = SourceSamples(
        pairs,
        None if statistics is None else _sampler(recipe, statistics),
        int(recipe.source.rcs_min_pixels * recipe.source.rcs_min_crop_ratio),
        recipe.crop,
        recipe.appearance,
        network.mean,
        network.std,
    )
    target, lines = None, [f"source: {recipe.source.name}, {len(pairs)} labelled images"]
    if recipe.target is not None and frames is not None:
        crop = _target_crop(recipe.crop, recipe.target)
        check_target_size(frames, crop, recipe.target.margins)
        target = TargetSamples(frames, recipe.target.margins, crop, network.mean, network.std)
        lines.append(f"target: {recipe.target.name}, {frames.describe()}, no labels opened")
    images = recipe.batch_size // processes
    for line in lines:
        say(line)
    return Sources(Samples(source, target, recipe.seed, images, rank * images), checked, tuple(lines))


def _checked_labels(
    pairs: ImageLabelPairs, say: Callable[[str], None], count: Callable[[int, int], None]
) -> tuple[ClassStatistics, LabelAudit]:
    """Count and audit."""
    statistics = class_statistics(pairs, len(CITYSCAPES19), progress=count)
    if statistics.warning:
        say(statistics.warning)
    checked = audit(pairs, statistics, CITYSCAPES19)
    say(checked.table())
    if checked.stop:
        raise DataError(checked.stop[0])
    return statistics, checked


def open_pairs(config: LabelledConfig) -> ImageLabelPairs:
    """Open labelled images, or none at all for the layout `none`.

    Raises:
        DataError, RecipeError: see `open_labelled`.
    """
    if config.layout == NO_SOURCE:
        return ImageLabelPairs(config.name, (), ())
    return open_labelled(
        config.layout,
        config.root,
        config.split,
        label_space=config.label_space,
        images=config.images,
        labels=config.labels,
        names=_names(config),
    )


def open_validation(config: ValidationConfig) -> ImageLabelPairs:
    """Open a validation set, reduced to evenly spaced images if it exceeds its limit."""
    pairs = open_pairs(config)
    if not config.limit or len(pairs) <= config.limit:
        return pairs
    images, labels = (tuple(evenly_spaced(paths, config.limit)) for paths in (pairs.images, pairs.labels))
    return replace(pairs, images=images, labels=labels)


def validation_groups(config: ValidationConfig) -> ClassGroups:
    """Return the groups of classes in which a validation set is scored.

    Raises:
        RecipeError: the name is unknown.
    """
    name = config.groups or CITYSCAPES19.name
    if name not in EVALUATION_GROUPS:
        raise RecipeError(f"validation groups '{name}' are not known; choose one of {', '.join(EVALUATION_GROUPS)}")
    return EVALUATION_GROUPS[name]


def open_target(config: TargetConfig) -> UnlabelledFrames:
    """Open unlabelled images.

    Raises:
        DataError, RecipeError: see `open_unlabelled`; or the recipe names no place.
    """
    if config.layout:
        if config.root is None:
            raise RecipeError(f"target.layout '{config.layout}' needs target.root, the data set's folder")
        return open_unlabelled_layout(config.layout, config.root, config.split, names=_names(config))
    if config.path is None:
        raise RecipeError("target: give path (folder, video, recording), or layout and root")
    return open_unlabelled(config.path, topic=config.topic, names=_names(config))


def _names(config: LabelledConfig | TargetConfig) -> Sequence[str] | None:
    return None if config.names is None else read_names(config.names)


def _sampler(recipe: Recipe, statistics: ClassStatistics) -> RareClassSampler | None:
    source = recipe.source
    if source.rcs_temperature <= 0:
        return None
    return RareClassSampler.from_counts(statistics.counts, source.rcs_temperature, source.rcs_min_pixels)


def _target_crop(crop: CropConfig, target: TargetConfig) -> CropConfig:
    return replace(
        crop,
        resize=target.resize,
        long_side=target.long_side,
        scale_min=target.scale_min,
        scale_max=target.scale_max,
        max_class_share=1.0,
    )
