"""`hrda train --check`: does everything that a run does once, estimates the cost of the run, and writes none.

Bad labels stop it, and are listed in a file of the cache folder.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from hrda_core.trainer.gpu_estimate import estimate_gpu
from hrda_core.trainer.loader import load_batches
from hrda_core.trainer.methods import finish_step, prepare_networks, take_step
from hrda_core.trainer.prototypes import renew_prototypes
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.runtime import Runtime
from hrda_core.trainer.sources import open_sources
from hrda_core.trainer.spaces import recipe_space, with_space
from hrda_core.trainer.state import start_state
from hrda_core.uda.step import StepRandom

__all__ = ["Estimate", "estimate"]

_STEPS = 3


@dataclass(frozen=True)
class Estimate:
    """The cost of a run on this machine.

    Attributes:
        step_s: median time of a step, seconds, without the first step.
        batch_s: time to draw one batch in one process or thread, seconds.
        hours: time of all iterations, without scoring and checkpoints.
        memory_gb: peak of the device's memory on a GPU, of the process on a CPU.
        device: device of the measurement.
        waits: whether drawing batches would hold up the steps.
    """

    step_s: float
    batch_s: float
    hours: float
    memory_gb: float
    device: str
    waits: bool

    def __str__(self) -> str:
        lines = [
            f"device            {self.device}",
            f"step              {self.step_s:.2f} s",
            f"batch             {self.batch_s:.2f} s to draw{' (holds up the steps: more workers)' * self.waits}",
            f"all iterations    {self.hours:.1f} h without scoring",
            f"peak memory       {self.memory_gb:.1f} GB",
        ]
        return "\n".join(lines)


def estimate(
    recipe: Recipe,
    say: Callable[[str], None],
    count: Callable[[int, int], None] = lambda done, total: None,
) -> Estimate:
    """Say what a GPU would need, then open the data, audit it, take a few steps, and discard the result.

    Raises:
        HrdaError: as `fit`, for whatever would stop a run at its start.
    """
    recipe = with_space(recipe)
    for line in str(estimate_gpu(recipe, len(recipe_space(recipe)))).splitlines():
        say(line)
    runtime = Runtime.open(recipe.runtime)
    sources = open_sources(recipe, runtime.rank, runtime.processes, say, count)
    torch.manual_seed(recipe.seed)
    state = start_state(recipe, runtime)
    begin = time.perf_counter()
    sources.samples.batch(0)
    batch_s = time.perf_counter() - begin
    renew_prototypes(state, recipe, sources.samples.source, runtime)
    seconds = []
    for loaded in load_batches(sources.samples, 0, min(_STEPS, recipe.iterations), 0):
        begin = time.perf_counter()
        prepare_networks(state, recipe)
        with runtime.autocast():
            random = StepRandom(recipe.seed, state.iteration, sources.samples.first)
            context = runtime.step_context(metrics=False, pictures=False)
            result = take_step(state, recipe, loaded.batch.to(runtime.device, runtime.dtype), random, context)
        runtime.average_gradients(state.trained())
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.iteration += 1
        finish_step(state, recipe)
        total = float(sum(result.losses.values()))
        seconds.append(time.perf_counter() - begin)
        say(f"step {state.iteration}: loss {total:.3f}, {seconds[-1]:.2f} s")
    step_s = median(seconds[1:] or seconds)
    return Estimate(
        step_s=step_s,
        batch_s=batch_s,
        hours=step_s * recipe.iterations / 3600,
        memory_gb=_peak_memory(runtime.device),
        device=runtime.describe(),
        waits=batch_s / max(1, recipe.runtime.workers) > step_s,
    )


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
