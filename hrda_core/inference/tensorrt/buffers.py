"""The memory of a frame: pinned on the host, and its counterpart on the GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hrda_core.inference.tensorrt.cuda import checked

__all__ = ["Buffers", "TensorSpec", "make_buffers", "view_of_memory"]

Array: TypeAlias = "npt.NDArray[Any]"


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of an input or output of an engine."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size in bytes, at least 1, because CUDA cannot allocate 0 bytes."""
        return max(1, int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize)


@dataclass(frozen=True)
class Buffers:
    """Memory of all inputs and outputs of an engine.

    Attributes:
        host: numpy views of pinned memory, by tensor name.
        device: addresses on the GPU, by tensor name.
    """

    host: Mapping[str, Array]
    device: Mapping[str, int]


def make_buffers(rt: Any, specs: tuple[TensorSpec, ...], stack: ExitStack) -> Buffers:
    """Allocate the memory; all of it is freed when `stack` closes.

    Raises:
        GpuError: the memory is full.
    """
    host, device = {}, {}
    for spec in specs:
        doing = f"allocating {spec.nbytes / 1e6:.1f} MB for '{spec.name}'"
        pinned = int(checked(rt.cudaHostAlloc(spec.nbytes, rt.cudaHostAllocDefault), doing))
        stack.callback(rt.cudaFreeHost, pinned)
        host[spec.name] = view_of_memory(pinned, spec)
        device[spec.name] = int(checked(rt.cudaMalloc(spec.nbytes), doing))
        stack.callback(rt.cudaFree, device[spec.name])
    return Buffers(host, device)


def view_of_memory(address: int, spec: TensorSpec) -> Array:
    """Return the memory at an address as an array, without a copy. It is valid as long as the memory is."""
    memory = memoryview((ctypes.c_uint8 * spec.nbytes).from_address(address))
    view: Array = np.ndarray(spec.shape, spec.dtype, memory)
    return view
