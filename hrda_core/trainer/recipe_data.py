"""The data of a training recipe: labelled sources, unlabelled targets, and what is scored on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hrda_core.data.augmentation.transforms import CropConfig, MarginConfig
from hrda_core.data.datasets.folder_files import FolderFiles
from hrda_core.data.datasets.labelled import OnBad
from hrda_core.errors import RecipeError
from hrda_core.messages.picture_size import MAX_MEGAPIXELS, check_limit
from hrda_core.window_plan import PlanChoice

__all__ = [
    "NO_SOURCE",
    "LabelledConfig",
    "SourceConfig",
    "TargetConfig",
    "TargetPartConfig",
    "ValidationConfig",
]

NO_SOURCE = "none"
"""Layout of `source` that stands for no labelled images; for distillation only."""


@dataclass(frozen=True)
class LabelledConfig:
    """The place of labelled images.

    Attributes:
        name: name for logs and model cards.
        layout: a row of `hrda_core.data.datasets.layouts`; `folders` = `images` and `labels` below; `none`
            (distillation) = no labelled images.
        root, split: folder and part of a data set as downloaded.
        images, labels: folders; labels are PNGs of the images' relative names. A folder of the path may be `*`, which
            stands for the same one in both: `data/*/rgb` and `data/*/seg`.
        image_suffix: end of the images' names, such as `_leftImg8bit.png`; empty = every image.
        label_suffix: what a label file has in the place of `image_suffix`, such as `_gtFine_labelIds.png`.
        label_colors: the label files are pictures in the exact colours of the classes, not in their ids.
        label_space: YAML file of the label files' ids and, if it names them, of their classes, or its keys and values;
            None = the layout's, or for `folders` the recipe's.
        names: text file that lists the images to use, one on each line, relative to `images`.
        exclude: names of images to leave out.
        on_bad: `stop` = a pair that cannot be used is an error, `skip` = it is left out and counted.
        value_range: of images of 16-bit pixels, the values that become 0 and 255, such as [0, 4095]; None = the
            smallest of 8, 10, 12, 14 and 16 bits that holds the values.
        max_megapixels: images and labels whose header states more million pixels are not decoded: they cannot be used.
        licence: licence of the data, for the model card.
    """

    name: str
    layout: str = "folders"
    root: Path | None = None
    split: str = "train"
    images: Path | None = None
    labels: Path | None = None
    image_suffix: str = ""
    label_suffix: str = ""
    label_colors: bool = False
    label_space: Path | dict[str, Any] | None = None
    names: Path | None = None
    exclude: list[str] = field(default_factory=list)
    on_bad: OnBad = "stop"
    value_range: tuple[int, int] | None = None
    max_megapixels: int = MAX_MEGAPIXELS
    licence: str = "unknown"

    def __post_init__(self) -> None:
        check_limit(self.max_megapixels)

    @property
    def files(self) -> FolderFiles:
        """How the files of the folders are named and read."""
        return FolderFiles(self.image_suffix, self.label_suffix, self.label_colors)


@dataclass(frozen=True)
class SourceConfig(LabelledConfig):
    """A labelled data set that is trained on, and how its images are drawn.

    Attributes:
        share: its part of the draws in proportion to the shares of the other sources; its number of images does not
            count.
        resize, scale_min, scale_max: instead of those of `crop`, for images of another size than the other sources';
            None = those of `crop`.
        rcs_temperature: T of Rare Class Sampling among its images; 0 = uniform sampling.
        rcs_min_pixels: an image counts for a class with more than this many of its pixels, at native size. None = the
            same share of the image as the papers' 3000 of 1914 x 1052, by the median size of the images.
        rcs_min_crop_ratio: a crop must show more than `rcs_min_pixels` times this; 0.5 for DAFormer's crops of
            512, 2 for HRDA's of 1024 in the paper.
    """

    share: float = 1.0
    resize: tuple[int, int] | None = None
    scale_min: float | None = None
    scale_max: float | None = None
    rcs_temperature: float = 0.01
    rcs_min_pixels: int | None = None
    rcs_min_crop_ratio: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share < math.inf:
            raise RecipeError(f"source '{self.name}': share is {self.share}; give a number above 0, or remove it")

    def crop(self, common: CropConfig) -> CropConfig:
        """Return the crops of its images, given those of the recipe."""
        return replace(
            common,
            resize=common.resize if self.resize is None else self.resize,
            scale_min=common.scale_min if self.scale_min is None else self.scale_min,
            scale_max=common.scale_max if self.scale_max is None else self.scale_max,
        )


@dataclass(frozen=True)
class TargetPartConfig:
    """A place of images without labels.

    Attributes:
        name: name for logs and model cards.
        path: folder of images, video file, or recording (rosbag2, ROS 1).
        layout, root, split: instead of `path`, a data set as downloaded; its labels are not opened.
        topic: image topic of a recording; empty = the only one.
        names: text file that lists the images of a folder to use.
        exclude: names of images of a folder to leave out.
        on_bad: `stop` = an image of a folder that cannot be read or is smaller than the crop is an error, `skip` = it
            is left out and counted.
        value_range, max_megapixels: see `LabelledConfig`.
        licence: licence of the data, for the model card.
        repeat: how often each of the images is listed.
    """

    name: str
    path: Path | None = None
    layout: str = ""
    root: Path | None = None
    split: str = "train"
    topic: str = ""
    names: Path | None = None
    exclude: list[str] = field(default_factory=list)
    on_bad: OnBad = "stop"
    value_range: tuple[int, int] | None = None
    max_megapixels: int = MAX_MEGAPIXELS
    licence: str = "unknown"
    repeat: int = 1

    def __post_init__(self) -> None:
        check_limit(self.max_megapixels)
        if self.repeat < 1:
            raise RecipeError(f"target '{self.name}': repeat is {self.repeat}; give 1 or more")


@dataclass(frozen=True)
class TargetConfig(TargetPartConfig):
    """Images without labels, of one place or several, and their crops.

    Attributes:
        more: further places.
        resize: largest width and height of an image before cropping, ratio kept; None = native size.
        long_side: larger images are shrunk to this longer side before cropping, pixels; 0 = never.
        scale_min, scale_max: range of the random factor before cropping.
        margins: borders whose pseudo-labels are not trusted, pixels after `resize` and `long_side`.
    """

    more: list[TargetPartConfig] = field(default_factory=list)
    resize: tuple[int, int] | None = None
    long_side: int = 0
    scale_min: float = 1.0
    scale_max: float = 1.0
    margins: MarginConfig = field(default_factory=MarginConfig)

    @property
    def parts(self) -> tuple[TargetPartConfig, ...]:
        """The place itself and the further ones."""
        return (self, *self.more)


@dataclass(frozen=True)
class ValidationConfig(LabelledConfig):
    """Labelled images on which the networks are scored. They are never trained on.

    Attributes:
        groups: score in these groups of classes: a name or a YAML file, see `hrda_core.label_files.find_groups`; empty
            = every class.
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
        super().__post_init__()
        if self.limit < 0:
            raise RecipeError(f"validation '{self.name}': limit is {self.limit}; give 1 or more, or 0 for all images")
        if self.resize is not None and min(self.resize) < 1:
            raise RecipeError(
                f"validation '{self.name}': resize is {self.resize}; give the largest width and height in pixels"
            )
        if self.plan or self.window:
            self.choice(hrda=True)  # a mistake shall show now, and not after the first thousand iterations

    def choice(self, *, hrda: bool) -> PlanChoice:
        """Return the window plan for an HRDA network, or for another one.

        Raises:
            BackendError: the plan is not known, or has no outer windows.
        """
        return PlanChoice(self.plan or ("overlap" if hrda else "whole"), crop=self.window)
