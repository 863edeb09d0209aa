"""Opens, counts and audits the data sets of a recipe, and makes samples of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from hrda_core.data.augmentation.transforms import CropConfig, check_target_size, target_misfit
from hrda_core.data.datasets.checked_labels import CheckedLabels, check_labels
from hrda_core.data.datasets.labelled import ImageLabelPairs, open_labelled, open_unlabelled_layout
from hrda_core.data.frames import ImageFrames, JoinedFrames, UnlabelledFrames, evenly_spaced
from hrda_core.data.image_files import image_size, read_names
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError, RecipeError
from hrda_core.label_files import find_groups
from hrda_core.labels import ClassGroups, LabelSpace
from hrda_core.messages.value_range import range_of
from hrda_core.models.presets import resolve_preset
from hrda_core.trainer.best import check_score
from hrda_core.trainer.class_shares import class_shares
from hrda_core.trainer.rare_classes import class_draws, min_pixels, sampler
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.recipe_data import (
    NO_SOURCE,
    LabelledConfig,
    SourceConfig,
    TargetConfig,
    TargetPartConfig,
    ValidationConfig,
)
from hrda_core.trainer.run_use import SeenSizes, seen_sizes
from hrda_core.trainer.samples import MixedSamples, Samples, SourceSamples, TargetSamples
from hrda_core.trainer.spaces import recipe_space
from hrda_core.window_plan import Size

__all__ = ["Sources", "open_pairs", "open_sources", "open_validation", "validation_groups"]


@dataclass(frozen=True)
class Sources:
    """Opened data of a run.

    Attributes:
        samples: batches of this process by iteration.
        validation: the pairs of each validation set of the recipe, in its order.
        audit: text on the check of the source labels, if there are any, of each validation set's, and of the target.
        description: lines for the log.
        sizes: sizes of the images that are trained on and scored.
        class_shares: share of each class of the labelled source pixels, as they are drawn without Rare Class Sampling.
    """

    samples: Samples
    validation: tuple[ImageLabelPairs, ...]
    audit: str
    description: tuple[str, ...]
    sizes: SeenSizes
    class_shares: tuple[float, ...]


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
    space = recipe_space(recipe)
    pairs = [open_pairs(part) for part in recipe.sources]  # a wrong folder shall not wait for the counting of others
    frames, left_out = (None, []) if recipe.target is None else fitting_target(recipe, recipe.target)
    opened = [(validation, open_validation(validation)) for validation in recipe.validation]
    for validation in recipe.validation:
        check_score(recipe, validation.name, validation_groups(validation, space))
    sources = [_checked(part, one, space, say, count) for part, one in zip(recipe.sources, pairs, strict=True) if one]
    scored = [
        check_labels(pairs, space, on_bad=validation.on_bad, scored=True, say=say, count=count)
        for validation, pairs in opened
    ]
    source = _source_samples(recipe, sources)
    target, lines = None, [_described(recipe, sources)]
    native = [
        size
        for config, checked in zip(recipe.validation, scored, strict=True)
        if config.resize is None
        for size in _sizes(checked)
    ]
    sizes = seen_sizes([(_sizes(labels), part.crop(recipe.crop)) for part, labels in sources], native)
    if recipe.target is not None and frames is not None:
        crop = _target_crop(recipe.crop, recipe.target)
        check_target_size(frames, crop, recipe.target.margins)
        target = TargetSamples(frames, recipe.target.margins, crop, network.mean, network.std)
        sizes = seen_sizes([([(height, width) for _, height, width in frames.sizes()], crop)], native)
        lines.append(
            f"target: {' + '.join(part.name for part in recipe.target.parts)}, {frames.describe()}, no labels opened"
        )
    images = recipe.batch_size // processes
    for line in [*lines, *left_out]:
        say(line)
    return Sources(
        Samples(source, target, recipe.seed, images, rank * images),
        validation=tuple(checked.pairs for checked in scored),
        audit="\n\n".join([*(labels.audit.table() for labels in (*(each for _, each in sources), *scored)), *left_out]),
        description=tuple(lines),
        sizes=sizes,
        class_shares=class_shares(len(space), [(part.share, labels.statistics) for part, labels in sources]),
    )


def _checked(
    config: SourceConfig,
    pairs: ImageLabelPairs,
    space: LabelSpace,
    say: Callable[[str], None],
    count: Callable[[int, int], None],
) -> tuple[SourceConfig, CheckedLabels]:
    """A source with its labels counted and audited."""
    draws = partial(class_draws, config)
    return config, check_labels(pairs, space, on_bad=config.on_bad, draws=draws, say=say, count=count)


def _source_samples(
    recipe: Recipe, sources: Sequence[tuple[SourceConfig, CheckedLabels]]
) -> SourceSamples | MixedSamples:
    """Samples of one source as it draws them, or of several by their shares."""
    network = resolve_preset(recipe.model.preset, **recipe.model.overrides)
    parts = tuple(
        SourceSamples(
            labels.pairs,
            sampler(config, labels.statistics),
            int(min_pixels(config, labels.statistics) * config.rcs_min_crop_ratio),
            config.crop(recipe.crop),
            recipe.appearance,
            network.mean,
            network.std,
        )
        for config, labels in sources
    )
    if not parts:
        nothing = ImageLabelPairs(recipe.sources[0].name, (), ())
        return SourceSamples(nothing, None, 0, recipe.crop, recipe.appearance, network.mean, network.std)
    return parts[0] if len(parts) == 1 else MixedSamples(parts, _shares(recipe))


def _shares(recipe: Recipe) -> tuple[float, ...]:
    whole = sum(part.share for part in recipe.sources)
    return tuple(part.share / whole for part in recipe.sources)


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
        exclude=config.exclude,
        on_bad=config.on_bad,
        files=config.files,
        value_range=range_of(config.value_range),
        max_megapixels=config.max_megapixels,
    )


def _described(recipe: Recipe, sources: Sequence[tuple[SourceConfig, CheckedLabels]]) -> str:
    if len(sources) < 2:
        return f"source: {recipe.sources[0].name}, {sum(len(labels.pairs) for _, labels in sources)} labelled images"
    rows = zip(sources, _shares(recipe), strict=True)
    return "source: " + " + ".join(
        f"{config.name}, {len(labels.pairs)} labelled images, {100 * share:.0f} % of the draws"
        for (config, labels), share in rows
    )


def open_validation(config: ValidationConfig) -> ImageLabelPairs:
    """Open a validation set, reduced to evenly spaced images if it exceeds its limit."""
    pairs = open_pairs(config)
    if not config.limit or len(pairs) <= config.limit:
        return pairs
    return pairs.take(evenly_spaced(range(len(pairs)), config.limit))


def validation_groups(config: ValidationConfig, space: LabelSpace) -> ClassGroups:
    """Return the groups of the network's classes in which a validation set is scored.

    Raises:
        LabelSpaceError: see `find_groups`.
    """
    return find_groups(config.groups, space)


def open_target(config: TargetConfig) -> UnlabelledFrames:
    """Open the unlabelled images of all places, as often as each says.

    Raises:
        DataError, RecipeError: see `open_unlabelled`; or the recipe names no place.
    """
    return _joined([(part, _open_place(part)) for part in config.parts])


def _joined(opened: Sequence[tuple[TargetPartConfig, UnlabelledFrames]]) -> UnlabelledFrames:
    frames = tuple(frames for part, frames in opened for _ in range(part.repeat))
    return frames[0] if len(frames) == 1 else JoinedFrames(frames)


def fitting_target(recipe: Recipe, config: TargetConfig) -> tuple[UnlabelledFrames, list[str]]:
    """The target without the images that its places say to skip, and sentences on these."""
    crop = _target_crop(recipe.crop, config)

    def misfit(frames: ImageFrames, file: str) -> str:
        try:
            return target_misfit(file, *image_size(frames.folder / file), crop, config.margins)
        except DataError as error:
            return str(error)

    opened, left_out = [], []
    for part in config.parts:
        frames = _open_place(part)
        if part.on_bad == "skip" and isinstance(frames, ImageFrames):
            found = {file: sentence for file in frames.files if (sentence := misfit(frames, file))}
            if len(found) == len(frames):
                raise DataError(f"target '{part.name}': none of {len(frames)} images can be used: {found.popitem()[1]}")
            if found:
                first, whole = next(iter(found.values())), f"{len(frames)} images of target '{part.name}'"
                left_out.append(f"left out: {len(found)} of {whole} (on_bad: skip): {first}")
            frames = replace(frames, files=tuple(file for file in frames.files if file not in found))
        opened.append((part, frames))
    return _joined(opened), left_out


def _open_place(config: TargetPartConfig) -> UnlabelledFrames:
    if config.layout:
        if config.root is None:
            raise RecipeError(f"target.layout '{config.layout}' needs target.root, the data set's folder")
        return open_unlabelled_layout(
            config.layout,
            config.root,
            config.split,
            names=_names(config),
            exclude=config.exclude,
            value_range=range_of(config.value_range),
            max_megapixels=config.max_megapixels,
        )
    if config.path is None:
        raise RecipeError("target: give path (folder, video, recording), or layout and root")
    return open_unlabelled(
        config.path,
        topic=config.topic,
        names=_names(config),
        exclude=config.exclude,
        value_range=range_of(config.value_range),
        max_megapixels=config.max_megapixels,
    )


def _names(config: LabelledConfig | TargetPartConfig) -> Sequence[str] | None:
    return None if config.names is None else read_names(config.names)


def _sizes(labels: CheckedLabels) -> list[Size]:
    return [(int(height), int(width)) for height, width in labels.statistics.image_sizes]


def _target_crop(crop: CropConfig, target: TargetConfig) -> CropConfig:
    return replace(
        crop,
        resize=target.resize,
        long_side=target.long_side,
        scale_min=target.scale_min,
        scale_max=target.scale_max,
        max_class_share=1.0,
    )
