"""Training samples: draw an image (rare classes first), crop it, change its appearance, normalise it.

A sample depends only on (seed, iteration, place in the global batch). A run that resumes at iteration t therefore gets
the samples of an uninterrupted run, whatever the number of workers and processes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hrda_core.data.augmentation.transforms import (
    AppearanceConfig,
    CropConfig,
    MarginConfig,
    augment_appearance,
    normalise,
    pad_to_crop,
    random_crop,
    target_crop,
)
from hrda_core.data.datasets.labelled import ImageLabelPairs
from hrda_core.data.frames import UnlabelledFrames
from hrda_core.labels import IGNORE_LABEL
from hrda_core.uda.rare_class_sampling import RareClassSampler
from hrda_core.uda.step import Batch, StepRandom

__all__ = ["MixedSamples", "Samples", "SourceSample", "SourceSamples", "TargetSample", "TargetSamples"]

_REDRAWS = 10


@dataclass(frozen=True)
class SourceSample:
    """A labelled sample: image float32 (3, H, W), normalised; labels int64 (H, W)."""

    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class TargetSample:
    """An unlabelled sample: image float32 (3, H, W), normalised, and trust bool (H, W).

    `trust` is True where pseudo-labels may be trusted.
    """

    image: npt.NDArray[np.float32]
    trust: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SourceSamples:
    """Draws samples from labelled images.

    Attributes:
        pairs: the labelled images.
        sampler: Rare Class Sampling, or None for uniform sampling.
        min_crop_pixels: a crop must show MORE than this many pixels of the drawn rare class, else it is drawn
            again, up to ten times (the last is taken unchecked).
        crop, appearance: the transforms of geometry and of colour.
        mean, std: normalisation, RGB on the 0..255 scale.
    """

    pairs: ImageLabelPairs
    sampler: RareClassSampler | None
    min_crop_pixels: int
    crop: CropConfig
    appearance: AppearanceConfig
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, rng: np.random.RandomState) -> SourceSample:
        """Draw one sample; all randomness comes from `rng`."""
        if self.sampler is None:
            return self.draw_from(int(rng.randint(len(self.pairs))), rng)
        label, index = self.sampler.draw(rng)
        return self.draw_from(index, rng, label)

    def draw_from(self, index: int, rng: np.random.RandomState, label: int | None = None) -> SourceSample:
        """Draw one sample of image `index`; a crop that shows too little of class `label` is drawn again."""
        whole = self.pairs.load(index)
        for _ in range(1 + _REDRAWS):
            image, labels = random_crop(*whole, self.crop, rng)
            if label is None or np.count_nonzero(labels == label) > self.min_crop_pixels:
                break
        image = augment_appearance(image, self.appearance, rng)
        padded, labels = pad_to_crop(normalise(image, self.mean, self.std), labels, self.crop, IGNORE_LABEL)
        return SourceSample(padded, labels.astype(np.int64))


@dataclass(frozen=True)
class MixedSamples:
    """Draws samples from several sets of labelled images: first a set by its share, then a sample as the set draws it.

    Attributes:
        parts: the sets; their crops have one size.
        shares: probability of each, which add up to 1.
    """

    parts: tuple[SourceSamples, ...]
    shares: tuple[float, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def crop(self) -> CropConfig:
        """A crop of the first set, for its height and width."""
        return self.parts[0].crop

    def draw(self, rng: np.random.RandomState) -> SourceSample:
        """Draw one sample; all randomness comes from `rng`."""
        return self.parts[int(rng.choice(len(self.parts), p=self.shares))].draw(rng)

    def draw_from(self, index: int, rng: np.random.RandomState) -> SourceSample:
        """Draw one sample of image `index`, counted through all sets."""
        for part in self.parts:
            if index < len(part):
                return part.draw_from(index, rng)
            index -= len(part)
        raise IndexError("there are fewer images")


@dataclass(frozen=True)
class TargetSamples:
    """Draws samples from unlabelled images, each equally often.

    Attributes:
        frames: the images.
        margins: borders that are not trusted.
        crop, mean, std: as of `SourceSamples`.
    """

    frames: UnlabelledFrames
    margins: MarginConfig
    crop: CropConfig
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def draw(self, rng: np.random.RandomState) -> TargetSample:
        """Draw one sample; all randomness comes from `rng`."""
        image = self.frames.load(int(rng.randint(len(self.frames))))
        cropped, trust = target_crop(image, self.margins, self.crop, rng)
        padded, trust = pad_to_crop(normalise(cropped, self.mean, self.std), trust, self.crop, False)
        return TargetSample(padded, trust)


@dataclass(frozen=True)
class Samples:
    """Batches by iteration, for one process of several. It can be pickled: worker processes hold copies.

    Attributes:
        source: labelled samples; without images the batches have none.
        target: unlabelled samples, or None.
        seed: seed of the run.
        count: images of each domain on this process.
        first: place of this process's first image in the global batch.
    """

    source: SourceSamples | MixedSamples
    target: TargetSamples | None
    seed: int
    count: int
    first: int = 0

    def batch(self, iteration: int) -> Batch:
        """Return the batch of an iteration, which is always the same."""
        random = StepRandom(self.seed, iteration, self.first)
        count, size = (self.count if len(self.source) else 0), (self.source.crop.height, self.source.crop.width)
        source = [self.source.draw(random.image(place, "source sample")) for place in range(count)]
        images, labels = torch.zeros(0, 3, *size), torch.zeros(0, *size, dtype=torch.int64)
        if source:
            images = torch.from_numpy(np.stack([sample.image for sample in source]))
            labels = torch.from_numpy(np.stack([sample.labels for sample in source]))
        if self.target is None:
            return Batch(images, labels)
        target = [self.target.draw(random.image(place, "target sample")) for place in range(self.count)]
        return Batch(
            images,
            labels,
            torch.from_numpy(np.stack([sample.image for sample in target])),
            torch.from_numpy(np.stack([sample.trust for sample in target])),
        )
