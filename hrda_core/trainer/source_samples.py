"""Training samples of a labelled source: draw an image (rare classes first), crop it, change its appearance.

A sample depends only on (seed, iteration, position in the batch). Whoever resumes at iteration t gets the samples
that an uninterrupted run would have had, whatever the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hrda_core.data.datasets import ImageLabelPairs
from hrda_core.data.transforms import AppearanceConfig, CropConfig, augment_appearance, normalise, random_crop
from hrda_core.uda.rare_class_sampling import RareClassSampler

__all__ = ["Sample", "SourceSamples", "sample_generator"]

_REDRAWS = 10


@dataclass(frozen=True)
class Sample:
    """image: float32 (3, H, W), normalised; labels: int64 (H, W)."""

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class SourceSamples:
    """Draws samples from labelled images.

    Attributes:
        pairs: the labelled images.
        sampler: Rare Class Sampling, or None for uniform sampling.
        min_crop_pixels: a crop must show MORE than this many pixels of the drawn rare class, else it is drawn
            again, up to ten times (the last is taken unchecked).
        crop, appearance: see there.
        mean, std: normalisation, RGB on the 0..255 scale.
    """

    pairs: ImageLabelPairs
    sampler: RareClassSampler | None
    min_crop_pixels: int
    crop: CropConfig
    appearance: AppearanceConfig
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def draw(self, rng: np.random.RandomState) -> Sample:
        """One sample; all randomness comes from `rng`."""
        if self.sampler is None:
            image, labels = random_crop(*self.pairs.load(int(rng.randint(len(self.pairs)))), self.crop, rng)
        else:
            label, index = self.sampler.draw(rng)
            whole = self.pairs.load(index)
            for _ in range(1 + _REDRAWS):
                image, labels = random_crop(*whole, self.crop, rng)
                if np.count_nonzero(labels == label) > self.min_crop_pixels:
                    break
        image = augment_appearance(image, self.appearance, rng)
        return Sample(normalise(image, self.mean, self.std), labels.astype(np.int64))


def sample_generator(seed: int, iteration: int, position: int) -> np.random.RandomState:
    """The generator of one sample, independent of all others."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, iteration, position))))
