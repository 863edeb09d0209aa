"""Batches ahead of their use: in order, the same whoever loads them, and a dead worker is a sentence."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from street_images import write_street_images

from hrda_core.data.augmentation.transforms import AppearanceConfig, CropConfig, MarginConfig
from hrda_core.data.datasets.labelled import ImageLabelPairs, pair_folders
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError
from hrda_core.trainer.loader import load_batches
from hrda_core.trainer.samples import Samples, SourceSamples, TargetSamples
from hrda_core.uda.rare_class_sampling import RareClassSampler
from hrda_core.uda.step import Batch

HALF = (127.5, 127.5, 127.5)


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    images, labels = write_street_images(tmp_path / "data", count=4)
    return _samples(pair_folders(images, labels), images)


def _samples(pairs: ImageLabelPairs, images: Path, *, count: int = 2, first: int = 0) -> Samples:
    crop = CropConfig(64, 64, scale_min=0.8, scale_max=1.2)
    source = SourceSamples(pairs, None, 0, crop, AppearanceConfig(), HALF, HALF)
    target = TargetSamples(open_unlabelled(images), MarginConfig(top=20), crop, HALF, HALF)
    return Samples(source, target, seed=3, count=count, first=first)


def _equal(one: Batch, two: Batch) -> bool:
    pairs = zip(vars(one).values(), vars(two).values(), strict=True)
    return all(ours is not None and torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order_and_start_anywhere(samples: Samples, workers: int) -> None:
    expected = [samples.batch(iteration) for iteration in range(6)]
    assert not _equal(expected[0], expected[1])
    for start in (0, 4):
        loaded = [entry.batch for entry in load_batches(samples, start, 6, workers)]
        assert len(loaded) == 6 - start
        assert all(_equal(ours, theirs) for ours, theirs in zip(loaded, expected[start:], strict=True))


def test_two_processes_share_the_global_batch(samples: Samples) -> None:
    whole = samples.batch(5)
    pairs = samples.source.pairs
    images = Path(pairs.images[0]).parents[1]
    parts = [_samples(pairs, images, count=1, first=place).batch(5) for place in range(2)]
    assert torch.equal(whole.source_images, torch.cat([part.source_images for part in parts]))
    assert torch.equal(whole.source_labels, torch.cat([part.source_labels for part in parts]))


def test_margins_are_not_trusted(samples: Samples) -> None:
    trust = torch.cat([samples.batch(iteration).target_trust for iteration in range(8)])  # type: ignore[misc]
    assert trust.any()
    assert not trust.all()


def test_a_rare_class_is_in_the_crop(samples: Samples) -> None:
    car = RareClassSampler(torch.tensor([13]).numpy(), torch.ones(1).numpy(), (torch.arange(4).numpy(),))
    rare = SourceSamples(samples.source.pairs, car, 300, samples.source.crop, AppearanceConfig(), HALF, HALF)
    batches = [Samples(rare, None, 0, 2).batch(iteration) for iteration in range(5)]
    assert all((labels == 13).sum() > 300 for batch in batches for labels in batch.source_labels)


@dataclass(frozen=True)
class _Deadly(Samples):
    """Kills the worker that loads iteration 1."""

    def batch(self, iteration: int) -> Batch:
        if iteration == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch(iteration)


def test_a_killed_worker_ends_the_run_with_one_sentence(samples: Samples) -> None:
    deadly = _Deadly(samples.source, samples.target, 0, 2)
    with pytest.raises(DataError, match=r"died.*--resume auto"):
        list(load_batches(deadly, 0, 6, 2))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_vanishes_is_named(samples: Samples, workers: int) -> None:
    for path in samples.source.pairs.images:
        path.unlink()
    with pytest.raises(DataError, match=r"frame\d\.jpg") as caught:
        list(load_batches(samples, 0, 4, workers))
    assert "Traceback" not in str(caught.value)
