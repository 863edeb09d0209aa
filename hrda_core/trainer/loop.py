"""The training loop of a labelled source: draw, step, average, log, checkpoint. Resumes bit-exactly on a CPU."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from hrda_core.data.datasets import count_classes, pair_folders
from hrda_core.errors import DataError, RecipeError
from hrda_core.interop import load_backbone
from hrda_core.labels import CITYSCAPES19
from hrda_core.models import HRDA, create_model
from hrda_core.models.presets import NetworkConfig, resolve_preset
from hrda_core.models.timm_encoder import TimmEncoder, load_imagenet_weights
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, load_checkpoint, save_checkpoint
from hrda_core.trainer.optim import build_optimizer, learning_rate_factor, set_learning_rate
from hrda_core.trainer.recipe import ModelConfig, Recipe
from hrda_core.trainer.source_samples import SourceSamples, sample_generator
from hrda_core.uda.detail_crop import draw_detail_crop
from hrda_core.uda.losses import hrda_loss, pixel_accuracy
from hrda_core.uda.rare_class_sampling import RareClassSampler
from hrda_core.uda.teacher import update_teacher

__all__ = ["LOG_NAME", "RECIPE_NAME", "WEIGHTS_NAME", "Progress", "fit"]

RECIPE_NAME = "recipe.yaml"
LOG_NAME = "log.jsonl"
WEIGHTS_NAME = "model.safetensors"

_DETAIL_CROP_STREAM = 1 << 20
"""Position in `sample_generator` of the detail crop, beyond any batch size."""


@dataclass(frozen=True)
class Progress:
    """One line of the log.

    Attributes:
        iteration: steps done so far.
        iterations: steps in all.
        losses: weighted terms by name.
        accuracy: share of pixels whose top class is right, 0..1.
        seconds: wall time of the step.
    """

    iteration: int
    iterations: int
    losses: dict[str, float]
    accuracy: float
    seconds: float


@dataclass
class _State:
    model: HRDA
    averaged: HRDA
    optimizer: torch.optim.AdamW
    iteration: int = 0


def fit(
    recipe: Recipe,
    run: Path,
    *,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Path | None:
    """Train as `recipe` says and leave weights, recipe and log in `run`.

    Args:
        run: folder of the run, created.
        resume: go on from the checkpoint in `run` if there is one. Without it a folder with a checkpoint is refused.
        report: called after each step.
        should_stop: asked after each step; True writes a checkpoint and ends early.

    Returns:
        path of the exported weights, `run/model.safetensors`; None if stopped early.

    Raises:
        RecipeError: `run` holds a run already, or one of another recipe.
        DataError: the data or the checkpoint cannot be used.
    """
    checkpoint = run / CHECKPOINT_NAME
    if checkpoint.exists() and not resume:
        raise RecipeError(f"run folder '{run}' holds a run already; give --resume true to go on, or another folder")
    network = resolve_preset(recipe.model.preset, **recipe.model.overrides)
    samples = _source_samples(recipe, network)
    torch.manual_seed(recipe.seed)
    state = _initial_state(recipe)
    run.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        _restore(state, load_checkpoint(checkpoint), recipe)
    (run / RECIPE_NAME).write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False), encoding="utf-8")
    _train(state, recipe, samples, run, report, should_stop)
    return _save_weights(state, recipe, run) if state.iteration == recipe.iterations else None


def _train(
    state: _State,
    recipe: Recipe,
    samples: SourceSamples,
    run: Path,
    report: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> None:
    with (run / LOG_NAME).open("a", encoding="utf-8") as log:
        for images, labels in _batches(samples, recipe, start=state.iteration):
            begin = time.perf_counter()
            losses, accuracy = _step(state, recipe, images, labels)
            state.iteration += 1
            progress = Progress(state.iteration, recipe.iterations, losses, accuracy, time.perf_counter() - begin)
            log.write(json.dumps(progress.__dict__) + "\n")
            log.flush()
            report(progress)
            stopping = should_stop()
            if stopping or state.iteration % recipe.checkpoint_every == 0 or state.iteration == recipe.iterations:
                save_checkpoint(run / CHECKPOINT_NAME, _snapshot(state, recipe))
            if stopping:
                return


def _step(state: _State, recipe: Recipe, images: Tensor, labels: Tensor) -> tuple[dict[str, float], float]:
    """One optimiser step on source images (B, 3, H, W) and labels (B, H, W)."""
    model, iteration = state.model, state.iteration
    set_learning_rate(state.optimizer, learning_rate_factor(iteration, recipe.iterations, recipe.optim))
    _set_train_mode(model, recipe)
    rng = sample_generator(recipe.seed, iteration, _DETAIL_CROP_STREAM)
    box = draw_detail_crop((images.shape[2], images.shape[3]), model.detail_crop, rng)
    output = model.forward_train(images, box)
    losses = hrda_loss(output, labels, detail_weight=recipe.model.detail_weight)
    state.optimizer.zero_grad(set_to_none=True)
    losses.total.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    update_teacher(state.averaged, model, iteration, recipe.average)
    terms = {"fused": losses.fused, "detail": losses.detail, "context": losses.context}
    return {k: float(v.detach()) for k, v in terms.items() if v is not None}, pixel_accuracy(output.fused, labels)


def _batches(samples: SourceSamples, recipe: Recipe, start: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of iterations `start`..end; the next one is drawn while the current one is used."""

    def draw(iteration: int) -> tuple[Tensor, Tensor]:
        drawn = [samples.draw(sample_generator(recipe.seed, iteration, k)) for k in range(recipe.batch_size)]
        images = torch.from_numpy(np.stack([sample.image for sample in drawn]))
        return images, torch.from_numpy(np.stack([sample.labels for sample in drawn]))

    with ThreadPoolExecutor(max_workers=1) as pool:
        pending = pool.submit(draw, start) if start < recipe.iterations else None
        for iteration in range(start, recipe.iterations):
            assert pending is not None
            batch = pending.result()
            if iteration + 1 < recipe.iterations:
                pending = pool.submit(draw, iteration + 1)
            yield batch


def _source_samples(recipe: Recipe, network: NetworkConfig) -> SourceSamples:
    source = recipe.source
    pairs = pair_folders(source.images, source.labels)
    sampler = None
    if source.rcs_temperature > 0:
        counts = count_classes(pairs, len(CITYSCAPES19))
        sampler = RareClassSampler.from_counts(counts, source.rcs_temperature, source.rcs_min_pixels)
    min_crop_pixels = int(source.rcs_min_pixels * source.rcs_min_crop_ratio)
    return SourceSamples(pairs, sampler, min_crop_pixels, recipe.crop, recipe.appearance, network.mean, network.std)


def _initial_state(recipe: Recipe) -> _State:
    model = create_model(recipe.model.preset, num_classes=len(CITYSCAPES19), **recipe.model.overrides)
    if not isinstance(model, HRDA):
        raise RecipeError(f"preset '{recipe.model.preset}' is not an HRDA network; this trainer needs one")
    _load_start(model, recipe.model)
    if recipe.model.freeze_encoder_norm:
        for module in _norm_layers(model.backbone):
            module.requires_grad_(False)
    averaged = copy.deepcopy(model).requires_grad_(False)
    return _State(model, averaged, build_optimizer(model, recipe.optim))


def _load_start(model: HRDA, config: ModelConfig) -> None:
    """Fill the network with what the recipe says it starts from."""
    if config.weights is not None:
        _load_weights(model, config.weights)
    elif config.backbone is not None:
        load_backbone(model.backbone, config.backbone, allow_random_backbone=config.allow_random_backbone)
    elif config.imagenet:
        if not isinstance(model.backbone, TimmEncoder):
            raise RecipeError("MiT encoders start from a file: give model.backbone, or allow_random_backbone")
        load_imagenet_weights(model.backbone)
    elif not config.allow_random_backbone:
        raise RecipeError(
            "the encoder would start from random weights and learn far worse; give model.backbone or model.weights, "
            "or allow it with --allow-random-backbone"
        )


def _load_weights(model: HRDA, path: Path) -> None:
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"weights '{path}' cannot start this network ({reason}); give {WEIGHTS_NAME} of a run"
        ) from error


def _set_train_mode(model: HRDA, recipe: Recipe) -> None:
    model.train()
    if recipe.model.freeze_encoder_norm:
        for module in _norm_layers(model.backbone):
            module.eval()


def _norm_layers(module: nn.Module) -> Iterator[nn.Module]:
    return (child for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm))


def _snapshot(state: _State, recipe: Recipe) -> dict[str, Any]:
    return {
        "recipe": recipe.to_dict(),
        "iteration": state.iteration,
        "model": state.model.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "torch_rng": torch.get_rng_state(),
    }


def _restore(state: _State, saved: dict[str, Any], recipe: Recipe) -> None:
    ours, theirs = recipe.to_dict(), saved["recipe"]
    changed = sorted(key for key in ours if ours[key] != theirs.get(key))
    if changed:
        raise RecipeError(f"the run to resume has another recipe (differs in {', '.join(changed)}); use another folder")
    state.model.load_state_dict(saved["model"])
    state.averaged.load_state_dict(saved["averaged"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.iteration = int(saved["iteration"])
    torch.set_rng_state(saved["torch_rng"])


def _save_weights(state: _State, recipe: Recipe, run: Path) -> Path:
    """The averaged weights with the student's BatchNorm statistics: the average itself never ran in train mode."""
    weights = dict(state.model.state_dict())
    if recipe.average:
        weights |= dict(state.averaged.named_parameters())
    part = run / (WEIGHTS_NAME + ".part")
    part.write_bytes(save({name: value.detach().contiguous() for name, value in weights.items()}))
    part.replace(run / WEIGHTS_NAME)
    return run / WEIGHTS_NAME
