"""Device, precision and processes of a run. Lightning Fabric does the launching and the scaling.

`torchrun --nproc_per_node 2 -m hrda_training -- train RECIPE --run RUN` starts several processes; Fabric finds them by
the environment. Gradients of all backward passes of a step add up on each process and are averaged once, in one flat
exchange: DistributedDataParallel would hook every pass, and needs to be told which one is the last.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hrda_core.errors import RecipeError, require
from hrda_core.trainer.recipe import RuntimeConfig
from hrda_core.uda.step import StepContext

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Runtime"]

_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed", "fp64": "64-true"}


@dataclass(frozen=True)
class Runtime:
    """An opened runtime.

    Attributes:
        fabric: the launched Lightning Fabric.
        config: the configuration that it was opened with.
    """

    fabric: Fabric
    config: RuntimeConfig

    @classmethod
    def open(cls, config: RuntimeConfig) -> Runtime:
        """Join the other processes, if the environment says that there are some.

        Raises:
            RecipeError: CUDA is asked for and absent, or the device lacks the precision.
            MissingPackageError: Lightning Fabric is not installed.
        """
        fabric_module = require("lightning_fabric", "train")
        accelerator = _device(config)
        if config.precision == "fp16" and accelerator == "cpu":
            raise RecipeError("runtime.precision fp16 needs a GPU; use bf16 or fp32 on a CPU")
        if config.threads:
            torch.set_num_threads(config.threads)
        local, world = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), int(os.environ.get("WORLD_SIZE", 1))
        fabric = fabric_module.Fabric(
            accelerator=accelerator,
            devices=local,
            num_nodes=max(1, world // local),
            strategy="ddp" if world > 1 else "auto",
            precision=_PRECISION[config.precision],
        )
        fabric.launch()
        return cls(fabric, config)

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        return torch.device(self.fabric.device)

    @property
    def processes(self) -> int:
        """Number of processes."""
        return int(self.fabric.world_size)

    @property
    def rank(self) -> int:
        """Place of this process, from 0."""
        return int(self.fabric.global_rank)

    @property
    def dtype(self) -> torch.dtype:
        """Type of weights and input images."""
        return torch.float64 if self.config.precision == "fp64" else torch.float32

    def describe(self) -> str:
        """Return in words what runs where, for logs and reports."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"{name}, {self.config.precision}, {self.processes} process{'es' if self.processes > 1 else ''}"

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context that computes in half precision where the configuration asks for it."""
        context: AbstractContextManager[Any] = self.fabric.autocast()
        return context

    def optimizer(self, optimizer: torch.optim.Optimizer) -> Any:
        """Wrap the optimiser so that its step scales gradients as the precision needs."""
        return self.fabric.setup_optimizers(optimizer)

    def step_context(self, *, metrics: bool, pictures: bool) -> StepContext:
        """Return the context through which a step of `hrda_core.uda` reaches this runtime."""
        return StepContext(self.fabric.backward, self.sum, self.processes, metrics, pictures)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over processes of a tensor without gradient; the argument stays as it is."""
        if self.processes == 1:
            return value
        return self._exchange(value.clone())

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace all gradients by their mean over processes, in one exchange."""
        if self.processes == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self._exchange(torch.cat([gradient.reshape(-1) for gradient in gradients])) / self.processes
        offset = 0
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
            offset += gradient.numel()

    def _exchange(self, value: Tensor) -> Tensor:
        total: Any = self.fabric.all_reduce(value, reduce_op="sum")
        return torch.as_tensor(total)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any process, so that all of them stop together."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)


def _device(config: RuntimeConfig) -> str:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("runtime.device cuda: PyTorch finds no GPU here; use --runtime.device cpu")
    if config.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.device
