"""Rare Class Sampling of a recipe's source: its threshold for the images at hand, and how often each class is drawn."""

from __future__ import annotations

import numpy as np

from hrda_core.data.datasets.audit import ClassDraws
from hrda_core.data.datasets.class_statistics import ClassStatistics
from hrda_core.data.datasets.labelled import ImageLabelPairs
from hrda_core.data.packs.format import shown_from
from hrda_core.trainer.recipe_data import SourceConfig
from hrda_core.uda.rare_class_sampling import RareClassSampler

__all__ = ["class_draws", "min_pixels", "sampler"]


def min_pixels(config: SourceConfig, statistics: ClassStatistics) -> int:
    """Return the number of pixels above which an image shows a class: the recipe's, or one for the images' size."""
    if config.rcs_min_pixels is not None:
        return config.rcs_min_pixels
    return shown_from(statistics.label_sizes.prod(axis=1))


def sampler(config: SourceConfig, statistics: ClassStatistics) -> RareClassSampler | None:
    """Return Rare Class Sampling of labelled images, or None where the recipe switches it off.

    Raises:
        DataError: no image shows enough of any class.
    """
    if config.rcs_temperature <= 0:
        return None
    least = min_pixels(config, statistics)
    return RareClassSampler.from_counts(statistics.counts, config.rcs_temperature, least)


def class_draws(config: SourceConfig, pairs: ImageLabelPairs, statistics: ClassStatistics) -> ClassDraws | None:
    """Return how the classes are drawn, or None without Rare Class Sampling."""
    chosen = sampler(config, statistics)
    if chosen is None:
        return None
    classes = statistics.counts.shape[1]
    images, shares = np.zeros(classes, np.int64), np.zeros(classes, np.float64)
    # An image that is listed several times is still one image.
    images[chosen.classes] = [len({pairs.images[row] for row in rows}) for rows in chosen.images]
    shares[chosen.classes] = chosen.probabilities
    return ClassDraws(images, shares, min_pixels(config, statistics))
