"""The CUDA calls of the runner against a real cuda-python: names and errors. Nothing runs on a GPU here."""

from __future__ import annotations

import ast
import ctypes
from pathlib import Path

import numpy as np
import pytest

from hrda_core.errors import GpuError
from hrda_core.inference.tensorrt.buffers import TensorSpec, view_of_memory
from hrda_core.inference.tensorrt.cuda import check_runtime, checked, require_cuda
from hrda_core.nvidia_driver import Driver, Gpu, probe_driver

PACKAGE = Path("hrda_core/inference/tensorrt")


@pytest.fixture
def rt() -> object:
    pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
    return require_cuda()


def _names_of_rt(path: Path) -> set[str]:
    """Every `rt.NAME` and `self._rt.NAME`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            owner = node.value
            found = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if found in ("rt", "_rt"):
                names.add(node.attr)
    return names


def test_every_cuda_name_that_is_used_exists(repository: Path, rt: object) -> None:
    names = set().union(*(_names_of_rt(path) for path in (repository / PACKAGE).glob("*.py")))
    assert {"cudaMalloc", "cudaHostAlloc", "cudaGraphLaunch", "cudaStreamBeginCapture"} <= names
    assert [name for name in sorted(names) if not hasattr(rt, name)] == []


def test_a_failed_call_says_what_was_tried_and_the_name_of_the_error(rt: object) -> None:
    if isinstance(probe_driver(), Driver):
        pytest.skip("there is an NVIDIA driver here: the call does not fail")
    with pytest.raises(GpuError, match=r"the GPU failed while allocating: cudaErrorInsufficientDriver"):
        checked(rt.cudaMalloc(64), "allocating")  # type: ignore[attr-defined]


def test_full_memory_comes_with_advice(rt: object) -> None:
    code = rt.cudaError_t.cudaErrorMemoryAllocation  # type: ignore[attr-defined]
    with pytest.raises(GpuError, match="cudaErrorMemoryAllocation; other programs use its memory"):
        checked((code, None), "allocating")


def test_a_cuda_package_newer_than_the_driver_is_told(rt: object) -> None:
    gpu = Gpu("Orin", (8, 7), 16, 1)
    with pytest.raises(GpuError, match="too old for this cuda-python: it serves CUDA 11"):
        check_runtime(rt, Driver((11, 8), gpu))
    check_runtime(rt, Driver((99, 0), gpu))


def test_memory_is_shown_as_an_array_of_the_tensors_shape() -> None:
    spec = TensorSpec("labels", np.dtype(np.uint8), (1, 4, 6))
    memory = ctypes.create_string_buffer(bytes(range(24)), 24)
    seen = view_of_memory(ctypes.addressof(memory), spec)
    assert seen[0, 1, 2] == 8
    seen[...] = 7
    assert memory.raw == bytes([7] * 24)
    assert TensorSpec("none", np.dtype(np.float32), (0, 3)).nbytes == 1
