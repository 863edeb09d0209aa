"""Runs a PyTorch module frame by frame: eagerly on the CPU, or as a recorded CUDA graph on an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["CudaGraphRunner", "EagerRunner"]

Module = Callable[[Tensor], Sequence[Tensor]]
UInt8Array = npt.NDArray[np.uint8]
_WARM_UP = 3


class EagerRunner:
    """Runs a module on the CPU, operation by operation."""

    device_seconds: float | None = None

    def __init__(self, run: Module, dtype: torch.dtype, threads: int) -> None:
        self._run, self._dtype, self._threads = run, dtype, threads

    def __call__(self, image: Tensor) -> list[UInt8Array]:
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode(), _autocast("cpu", self._dtype):
                return [output.numpy() for output in self._run(image)]
        finally:
            torch.set_num_threads(before)


class CudaGraphRunner:
    """Runs a module on a GPU as one recorded graph for each shape of images; the last shape's graph is kept."""

    def __init__(self, run: Module, device: torch.device, dtype: torch.dtype) -> None:
        self._run, self._device, self._dtype = run, device, dtype
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._shape: torch.Size | None = None
        self.device_seconds: float | None = None

    def __call__(self, image: Tensor) -> list[UInt8Array]:
        if image.shape != self._shape:
            self._record(image)
        with torch.cuda.stream(self._stream):
            self._pinned_input.copy_(image)
            self._input.copy_(self._pinned_input, non_blocking=True)
            self._begin.record(self._stream)
            self._graph.replay()
            self._end.record(self._stream)
            for static, pinned in zip(self._outputs, self._pinned_outputs, strict=True):
                pinned.copy_(static, non_blocking=True)
        self._stream.synchronize()
        self.device_seconds = self._begin.elapsed_time(self._end) / 1e3
        return [pinned.numpy().copy() for pinned in self._pinned_outputs]

    def _record(self, image: Tensor) -> None:
        self._shape = None  # stays so if recording fails
        self._input = image.to(self._device)
        self._pinned_input = torch.empty_like(image).pin_memory()
        with torch.cuda.stream(self._stream):  # libraries set themselves up, which must not be recorded
            for _ in range(_WARM_UP):
                self._forward()
        self._stream.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=self._stream):
            self._outputs = self._forward()
        self._pinned_outputs = [torch.empty_like(value, device="cpu").pin_memory() for value in self._outputs]
        self._shape = image.shape

    def _forward(self) -> list[Tensor]:
        # Without the cache of autocast: a recording must not depend on tensors that the cache drops.
        with torch.inference_mode(), _autocast("cuda", self._dtype, cache_enabled=False):
            return list(self._run(self._input))


def _autocast(kind: str, dtype: torch.dtype, *, cache_enabled: bool = True) -> AbstractContextManager[Any]:
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(kind, dtype, cache_enabled=cache_enabled)
