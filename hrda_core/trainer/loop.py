"""The training loop: draw, step, average, log, score, checkpoint. It resumes bit-exactly on a CPU."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from hrda_core.errors import RecipeError, TrainingError
from hrda_core.folder_locks import held_folder
from hrda_core.models.class_bias import ClassBias, class_bias
from hrda_core.models.finite_weights import not_finite
from hrda_core.trainer.best import keep_best
from hrda_core.trainer.checkpoint import CHECKPOINT_NAME, load_checkpoint, save_checkpoint, save_tensors
from hrda_core.trainer.class_shares import shares_entry
from hrda_core.trainer.journal import Journal, Progress, environment, read_evaluations, write_environment
from hrda_core.trainer.loader import Loaded, load_batches
from hrda_core.trainer.loading import RECIPE_NAME
from hrda_core.trainer.methods import finish_step, prepare_networks, take_step
from hrda_core.trainer.optim import learning_rate_factor, set_learning_rate
from hrda_core.trainer.prototypes import renew_prototypes
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.runtime import Runtime
from hrda_core.trainer.sources import Sources, open_sources
from hrda_core.trainer.spaces import with_space
from hrda_core.trainer.state import WEIGHTS_NAME, State, save_weights, start_state
from hrda_core.trainer.validation import validate
from hrda_core.uda.adversarial import DiscriminatorConfig
from hrda_core.uda.step import Batch, StepRandom, StepResult
from hrda_core.whole_files import write_whole

__all__ = ["RECIPE_NAME", "Watch", "fit"]

BAD_BATCH_NAME = "bad_batch.safetensors"


@dataclass(frozen=True)
class Watch:
    """Callbacks through which the caller sees a run, and can end it.

    Attributes:
        progress: called after each step.
        say: takes a line of text: what is opened, scored.
        count: called while labels are counted, with files done and in all; the counts are kept for the next run.
        should_stop: asked after each step; True writes a checkpoint and ends early.
        draw: turns what a step saw into a picture, uint8 (H, W, 3) RGB; None = no pictures.
    """

    progress: Callable[[Progress], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None
    count: Callable[[int, int], None] = lambda done, total: None
    should_stop: Callable[[], bool] = lambda: False
    draw: Callable[[Mapping[str, Tensor], Recipe], Any] | None = None


@dataclass
class _Run:
    """The parts of a run that the functions below share."""

    recipe: Recipe
    folder: Path
    runtime: Runtime
    sources: Sources
    state: State
    watch: Watch
    bias: ClassBias = ()
    journal: Journal | None = None
    scored: list[int] = field(default_factory=list)

    @property
    def main(self) -> bool:
        """Whether this process writes."""
        return self.runtime.rank == 0


def fit(recipe: Recipe, run: Path, *, resume: bool | str = False, watch: Watch | None = None) -> Path | None:
    """Train as `recipe` says and leave weights, recipe, logs and scores in `run`.

    Args:
        run: folder of the run, created.
        resume: True or `"auto"` = continue from the checkpoint in `run` if there is one; with more `iterations` than
            before, a finished run is trained longer. Otherwise a folder with a checkpoint is refused.

    Returns:
        path of the exported weights, `run/model.safetensors`; None if stopped early.

    Raises:
        RecipeError: `run` holds a run already, or one of another recipe, or another process trains in it.
        DataError: the data or the checkpoint cannot be used, or the disk is full.
        TrainingError: a loss, a gradient or the state is not finite.
    """
    writes = int(os.environ.get("RANK", 0)) == 0
    with held_folder(run, f"training in '{run}'", error=RecipeError) if writes else nullcontext():
        return _fit(recipe, run, resume, watch or Watch())


def _fit(recipe: Recipe, run: Path, resume: bool | str, watch: Watch) -> Path | None:
    checkpoint = run / CHECKPOINT_NAME
    if checkpoint.exists() and not resume:
        raise RecipeError(f"run folder '{run}' holds a run already; give --resume auto to go on, or another folder")
    recipe = with_space(recipe)
    runtime = Runtime.open(recipe.runtime)
    sources = open_sources(recipe, runtime.rank, runtime.processes, watch.say, watch.count)
    torch.manual_seed(recipe.seed)
    state = start_state(recipe, runtime)
    if checkpoint.exists():
        state.restore(load_checkpoint(checkpoint), recipe)
        watch.say(f"going on after iteration {state.iteration} of {recipe.iterations}")
    elif anew := state.weights_loaded.get("anew"):
        watch.say(f"weights: all but {len(anew)} tensors are taken, these start anew: {', '.join(anew)}")
    if runtime.rank:  # dropout differs between processes, the start does not
        torch.manual_seed(recipe.seed + runtime.rank + (state.iteration << 16))
    part = _Run(recipe, run, runtime, sources, state, watch, class_bias(recipe.logit_adjustment, sources.class_shares))
    if not part.main:
        _train(part)
        return None
    with Journal(run, state.iteration) as part.journal:
        _describe(part)
        if state.iteration < recipe.iterations:
            _set_aside(part)
        _train(part)
        finished = state.iteration == recipe.iterations
        return save_weights(state, recipe, run, part.bias) if finished else None


def _set_aside(part: _Run) -> None:
    """Keep the exported weights of a run that is trained longer under another name: they are its result no more."""
    weights = part.folder / WEIGHTS_NAME
    if weights.is_file():
        kept = weights.with_name(f"{weights.stem}_{part.state.iteration:06d}{weights.suffix}")
        weights.replace(kept)
        part.watch.say(f"the weights of the end so far are kept as '{kept.name}'")


def _describe(part: _Run) -> None:
    """Write the resolved recipe and the environment."""
    text = yaml.safe_dump(part.recipe.to_dict(), sort_keys=False)
    write_whole(part.folder / RECIPE_NAME, text)
    extra = {
        "precision": part.recipe.runtime.precision,
        "processes": part.runtime.processes,
        "weights": part.state.weights_loaded,
        "deviations": list(part.recipe.paper),
        **part.sources.sizes.to_dict(),
        **shares_entry(part.sources.class_shares),
        "audit": part.sources.audit,
    }
    write_environment(part.folder, environment(part.runtime.describe(), torch.get_num_threads(), extra))


def _train(part: _Run) -> None:
    recipe, state = part.recipe, part.state
    config = recipe.runtime
    scored = any(line["iteration"] == state.iteration for line in read_evaluations(part.folder))
    if part.journal is not None and state.iteration == recipe.iterations and not scored:
        _score(part, part.journal, both=True)  # killed between the last step and its scores
    batches = load_batches(
        part.sources.samples,
        state.iteration,
        recipe.iterations,
        config.workers,
        pin=part.runtime.device.type == "cuda",
    )
    for loaded in batches:
        renew_prototypes(state, recipe, part.sources.samples.source, part.runtime)
        result, progress = _step(part, loaded)
        if part.journal is not None:
            part.journal.step(progress)
            if result.pictures and part.watch.draw is not None:
                part.journal.panel(state.iteration, part.watch.draw(result.pictures, recipe))
            part.watch.progress(progress)
        stopping = part.runtime.any(part.watch.should_stop())
        last = stopping or state.iteration == recipe.iterations
        if last or any(_due(every, state.iteration) for every in (recipe.checkpoint_every, recipe.evaluate_every)):
            _check_state(part)
        if part.main and (last or _due(recipe.checkpoint_every, state.iteration)):
            save_checkpoint(part.folder / CHECKPOINT_NAME, state.checkpoint(recipe))
        if stopping:
            return
        if part.journal is not None and (last or _due(recipe.evaluate_every, state.iteration)):
            _score(part, part.journal, both=last)


def _score(part: _Run, journal: Journal, *, both: bool) -> None:
    found = validate(
        part.state, part.recipe, part.sources.validation, journal, part.watch.say, both=both, bias=part.bias
    )
    kept = keep_best(part.state, part.recipe, part.folder, found)
    if kept:
        part.watch.say(kept)


def _step(part: _Run, loaded: Loaded) -> tuple[StepResult, Progress]:
    """One optimiser step."""
    recipe, state, runtime = part.recipe, part.state, part.runtime
    begin = time.perf_counter()
    _set_rates(state, recipe)
    prepare_networks(state, recipe)
    buffers = [value.clone() for value in _buffers(state)]
    batch = loaded.batch.to(runtime.device, runtime.dtype)
    random = StepRandom(recipe.seed, state.iteration, part.sources.samples.first)
    done = state.iteration + 1
    pictures = part.main and part.watch.draw is not None
    context = runtime.step_context(
        metrics=done % _METRICS_EVERY == 0 or done == 1,
        pictures=pictures and (_due(recipe.pictures_every, done) or done == recipe.iterations),
    )
    with runtime.autocast():
        result = take_step(state, recipe, batch, random, context)
    losses, metrics = _mean_over_processes(result, runtime)
    bad = ", ".join(f"{name} {value}" for name, value in losses.items() if not math.isfinite(value))
    if not bad:
        runtime.average_gradients(state.trained())
        bad = _bad_gradients(part)
    if bad:
        for value, kept in zip(_buffers(state), buffers, strict=True):
            value.copy_(kept)
        _stop_before_step(part, loaded.batch, bad)
    for optimizer in (state.optimizer, state.discriminator_optimizer):
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    state.iteration += 1
    finish_step(state, recipe)
    return result, Progress(
        iteration=state.iteration,
        iterations=recipe.iterations,
        losses=losses,
        metrics=metrics,
        learning_rate=float(state.optimizer.param_groups[0]["lr"]),
        seconds=time.perf_counter() - begin,
        wait_seconds=loaded.wait_s,
    )


def _mean_over_processes(result: StepResult, runtime: Runtime) -> tuple[dict[str, float], dict[str, float]]:
    """Losses and metrics as numbers: one exchange, and one wait for the device."""
    named = {**result.losses, **result.metrics}
    values = torch.stack([value.detach().double() for value in named.values()])
    mean = dict(zip(named, (runtime.sum(values) / runtime.processes).tolist(), strict=True))
    return {name: mean[name] for name in result.losses}, {name: mean[name] for name in result.metrics}


def _set_rates(state: State, recipe: Recipe) -> None:
    factor = learning_rate_factor(state.iteration, recipe.iterations, recipe.optim)
    set_learning_rate(state.optimizer, factor, recipe.optim.min_lr)
    if state.discriminator_optimizer is not None:
        left = 1 - state.iteration / recipe.iterations
        set_learning_rate(state.discriminator_optimizer, left ** DiscriminatorConfig().power)


_METRICS_EVERY = 10
"""Iterations between measurements of the training accuracy, which cost a few per cent of a step."""


def _bad_gradients(part: _Run) -> str:
    """Say which gradients are not finite; nothing where all are. One wait for the device."""
    if part.recipe.runtime.precision == "fp16":
        return ""  # some are meant to overflow: Fabric's scaler leaves out the step and takes a smaller scale
    named = {
        name: parameter.grad
        for network in (part.state.networks.student, part.state.networks.discriminator)
        if network is not None
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
    norms = (
        torch.stack([norm.double() for norm in torch._foreach_norm(list(named.values()))]) if named else torch.zeros(1)
    )
    if not part.runtime.any(not bool(torch.isfinite(norms.sum()))):
        return ""
    bad = not_finite(named)
    return f"{len(bad)} gradients, the first of {bad[0]}" if bad else "the norm of the gradients"


def _check_state(part: _Run) -> None:
    """Refuse to keep a state that is not finite; the last checkpoint stays.

    Raises:
        TrainingError: weights, statistics or moments of the optimiser are not finite.
    """
    bad = not_finite(part.state.checkpoint(part.recipe).tensors)
    if not part.runtime.any(bool(bad)):
        return
    checkpoint = part.folder / CHECKPOINT_NAME
    kept = f"'{checkpoint}' stays as it was" if checkpoint.exists() else "nothing was kept"
    raise TrainingError(
        f"after iteration {part.state.iteration} {len(bad)} tensors of the state are not finite "
        f"({', '.join(bad[:3])}); {kept}: lower optim.lr, or look for broken images or labels"
    )


def _stop_before_step(part: _Run, batch: Batch, bad: str) -> None:
    """Keep the batch and the last good state, then end the run.

    Raises:
        TrainingError: always.
    """
    _check_state(part)
    if part.main:
        tensors = {name: value.contiguous() for name, value in vars(batch).items() if value is not None}
        save_tensors(part.folder / BAD_BATCH_NAME, tensors)
        save_checkpoint(part.folder / CHECKPOINT_NAME, part.state.checkpoint(part.recipe))
    raise TrainingError(
        f"a loss or gradient of iteration {part.state.iteration + 1} is not finite ({bad}); no step was taken. The "
        f"batch is in '{part.folder / BAD_BATCH_NAME}', the state before it in '{part.folder / CHECKPOINT_NAME}': look "
        f"for broken images or labels, lower optim.lr, or use precision bf16 or fp32"
    )


def _buffers(state: State) -> list[Tensor]:
    networks = state.networks
    return [
        buffer
        for network in (networks.student, networks.teacher)
        if network is not None
        for buffer in network.buffers()
    ]


def _due(every: int, iteration: int) -> bool:
    return every > 0 and iteration % every == 0
