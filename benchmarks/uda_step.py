"""Compares one self-training iteration with a plain formulation: single crops, three passes back, no prefetch, NCHW."""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from hrda_core.bench.record import ROOT, milliseconds, write_record
from hrda_core.data.augmentation.transforms import AppearanceConfig, CropConfig, MarginConfig
from hrda_core.data.datasets.labelled import pair_folders
from hrda_core.data.open_frames import open_unlabelled
from hrda_core.labels import CITYSCAPES19
from hrda_core.machine import machine
from hrda_core.models import HRDA, create_model
from hrda_core.models.presets import resolve_preset
from hrda_core.standard_streams import with_streams
from hrda_core.trainer.layout import lay_out
from hrda_core.trainer.loader import load_batches
from hrda_core.trainer.optim import OptimConfig, build_optimizer
from hrda_core.trainer.samples import Samples, SourceSamples, TargetSamples
from hrda_core.uda.feature_distance import FeatureDistanceConfig
from hrda_core.uda.pseudo_labels import pseudo_labels
from hrda_core.uda.self_training import (
    ImageSpace,
    SelfTrainingConfig,
    draw_step,
    mixed_batch,
    self_training_step,
    set_teacher_mode,
    source_feature_distance,
)
from hrda_core.uda.step import Batch, Networks, StepContext, StepRandom
from hrda_core.uda.supervised import LossConfig, forward_losses
from hrda_core.uda.teacher import update_teacher
from hrda_core.window_plan import sliding_windows

CONFIG, LOSS, DISTANCE = SelfTrainingConfig(), LossConfig(), FeatureDistanceConfig()


@dataclass
class Setup:
    """A network, its data and its optimiser, ready to step."""

    networks: Networks
    samples: Samples
    space: ImageSpace
    optimizer: torch.optim.Optimizer
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]


def main() -> int:
    """Run both formulations in turn, so that a change of load affects both; print and record medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="hrda_lite")
    parser.add_argument("--crop", type=int, nargs=2, default=(192, 256), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="processes that load data for ours; 0 = a thread")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="half precision for ours; the plain one stays in single")
    parser.add_argument("--name", default="uda_step", help="of the file below benchmarks/results")
    options = parser.parse_args()
    before = machine()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        images = _made_images(Path(folder))
        ours, plain = _setup(options, images, as_trained=True), _setup(options, images, as_trained=False)
        seconds = _measure(ours, plain, options.iterations, options.workers)
        memory = _peak_memory(ours, plain)
    summary = {name: milliseconds(values) for name, values in seconds.items()}
    ratio = summary["plain"]["p50_ms"] / summary["ours"]["p50_ms"]
    wait = float(np.median(seconds["wait"]) / np.median(seconds["ours"]))
    for name in ("plain", "ours"):
        print(f"{name:<6} p50 {summary[name]['p50_ms']:8.1f} ms an iteration")
    print(f"ratio {ratio:.2f}; waiting for data {100 * wait:.1f} % of an iteration")
    figures = summary | {"ratio": round(ratio, 3), "wait_share": round(wait, 4)} | memory
    for name, value in memory.items():
        print(f"{name} {value}")
    settings = {key: value for key, value in vars(options).items() if key != "name"}
    path = write_record(options.name, figures=figures, settings=settings, before=before)
    print(f"written: {path.relative_to(ROOT)}")
    return 0


def _measure(our_setup: Setup, plain_setup: Setup, iterations: int, workers: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {"plain": [], "ours": [], "wait": []}
    ahead = load_batches(our_setup.samples, 0, iterations + 2, workers)
    for iteration, loaded in enumerate(ahead):
        ours = _timed(our_setup, lambda b=loaded.batch, i=iteration: _our_step(our_setup, b, i)) + loaded.wait_s
        plain = _timed(plain_setup, lambda i=iteration: _plain_step(plain_setup, plain_setup.samples.batch(i), i))
        if iteration >= 2:  # the first two allocate and tune
            seconds["ours"].append(ours)
            seconds["plain"].append(plain)
            seconds["wait"].append(loaded.wait_s)
    return seconds


def _peak_memory(our_setup: Setup, plain_setup: Setup) -> dict[str, float]:
    """On a GPU: gigabytes that each formulation allocates at most, and their ratio."""
    if our_setup.device.type != "cuda":
        return {}
    peaks = []
    batch = our_setup.samples.batch(0)
    for step, setup in ((_our_step, our_setup), (_plain_step, plain_setup)):
        torch.cuda.reset_peak_memory_stats()
        step(setup, batch, 1)
        peaks.append(torch.cuda.max_memory_allocated() / 1e9)
    ours, plain = peaks
    return {"ours_gb": round(ours, 2), "plain_gb": round(plain, 2), "memory_ratio": round(ours / plain, 3)}


def _timed(setup: Setup, run: Callable[[], None]) -> float:
    begin = time.perf_counter()
    run()
    if setup.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def _our_step(setup: Setup, batch: Batch, iteration: int) -> None:
    context = StepContext(metrics=False)
    with _around(setup, iteration), setup.autocast():
        batch = batch.to(setup.device)
        draws = draw_step(batch, setup.networks.student, StepRandom(0, iteration), CONFIG, context)
        self_training_step(batch, setup.networks, draws, setup.space, CONFIG, LOSS, DISTANCE, context)


def _plain_step(setup: Setup, batch: Batch, iteration: int) -> None:
    """The same losses, in the order of the spec, one after the other."""
    networks, student, context = setup.networks, setup.networks.student, StepContext(metrics=False)
    with _around(setup, iteration), patch("hrda_core.uda.losses._upsampled", _interpolated):
        batch = batch.to(setup.device)
        draws = draw_step(batch, student, StepRandom(0, iteration), CONFIG, context)
        source = forward_losses(student, batch.source_images, batch.source_labels, draws.source_box, LOSS)
        source.total.backward(retain_graph=True)
        distance = source_feature_distance(batch, networks, source, draws.source_box, setup.space, DISTANCE, context)
        (DISTANCE.weight * distance).backward()
        assert networks.teacher is not None
        assert batch.target_images is not None
        set_teacher_mode(networks.teacher, student)
        logits = _one_crop_at_a_time(networks.teacher, batch.target_images)
        pseudo = pseudo_labels(logits, CONFIG.threshold, batch.target_trust, context)
        images, labels, weight = mixed_batch(batch, pseudo, draws, setup.space)
        forward_losses(student, images, labels, draws.mixed_box, LOSS, weight).total.backward()


def _interpolated(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)


@torch.no_grad()
def _one_crop_at_a_time(teacher: nn.Module, images: Tensor) -> Tensor:
    assert isinstance(teacher, HRDA)
    crop = teacher.detail_crop
    context = teacher.context(images)
    total = images.new_zeros(len(images), context.logits.shape[1], images.shape[2] // 4, images.shape[3] // 4)
    count = torch.zeros_like(total[:, :1])
    for box in sliding_windows((images.shape[2], images.shape[3]), crop, (crop[0] // 2, crop[1] // 2)):
        place = box.scaled(1 / 4).index
        for index in range(len(images)):
            total[index][place] += teacher.detail(images[index : index + 1][box.index])[0]
            count[index][place] += 1
    fused = teacher.fuse(context, total / count)
    return torch.nn.functional.interpolate(fused, size=images.shape[2:], mode="bilinear", align_corners=False)


class _around:  # noqa: N801 (reads as a statement)
    """What both formulations have in common before and after the losses."""

    def __init__(self, setup: Setup, iteration: int) -> None:
        self.setup, self.iteration = setup, iteration

    def __enter__(self) -> None:
        networks = self.setup.networks
        assert networks.teacher is not None
        update_teacher(networks.teacher, networks.student, self.iteration, CONFIG.alpha)
        self.setup.optimizer.zero_grad()

    def __exit__(self, *_: object) -> None:
        self.setup.optimizer.step()


def _setup(options: argparse.Namespace, folder: Path, *, as_trained: bool) -> Setup:
    """Networks of one seed; `as_trained` in the memory format in which a run trains them."""
    torch.manual_seed(0)
    height, width = options.crop
    overrides = {"detail_crop": (height // 2, width // 2)}
    network = resolve_preset(options.preset, **overrides)
    device = torch.device(options.device)
    student = create_model(options.preset, **overrides).to(device).train()
    teacher = copy.deepcopy(student).requires_grad_(False)
    imagenet = copy.deepcopy(student.backbone).requires_grad_(False).eval()
    if as_trained:
        for part in (student, teacher, imagenet):
            lay_out(part, student.backbone, None)
    crop = CropConfig(height, width, scale_min=0.5, scale_max=1.0)
    pairs = pair_folders(folder / "images", folder / "labels")
    source = SourceSamples(pairs, None, 0, crop, AppearanceConfig(photometric=False), network.mean, network.std)
    target = TargetSamples(open_unlabelled(folder / "images"), MarginConfig(), crop, network.mean, network.std)
    space = ImageSpace(19, CITYSCAPES19.things, network.mean, network.std)

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16, enabled=options.bf16)

    return Setup(
        Networks(student, teacher, imagenet),
        Samples(source, target, 0, 2),
        space,
        build_optimizer(student, OptimConfig()),
        device,
        autocast,
    )


def _made_images(folder: Path) -> Path:
    """Eight textured 1280x960 JPEGs with labels in blocks: decoding costs what it costs on a real drive."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for index in range(8):
        rng = np.random.default_rng(index)
        coarse = rng.integers(0, 19, (12, 16), np.uint8)
        labels = np.kron(coarse, np.ones((80, 80), np.uint8))
        noise = rng.integers(0, 60, (960, 1280, 3), np.uint8)
        image = cv2.add(np.asarray(CITYSCAPES19.palette, np.uint8)[labels], cv2.blur(noise, (3, 3)))
        cv2.imwrite(str(folder / "images" / f"{index}.jpg"), image)
        cv2.imwrite(str(folder / "labels" / f"{index}.png"), labels)
    return folder


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "uda_step"))
