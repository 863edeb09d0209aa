"""Times an engine without the copies around it, layer by layer and as a whole, for `hrda bench`.

It was not run by its authors, who had no GPU; the names of all calls are checked against the real packages.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from hrda_core.errors import BackendError
from hrda_core.inference.tensorrt.buffers import Buffers
from hrda_core.inference.tensorrt.cuda import checked

__all__ = ["layer_times", "run_time"]


def layer_times(trt: Any, rt: Any, engine: Any, buffers: Buffers, stream: Any, runs: int) -> dict[str, float]:
    """Return the seconds of each layer by TensorRT's name for it, mean of `runs` frames, by TensorRT's profiler.

    The layers run one by one in a context of their own, without the CUDA graph, so their sum is more than a frame
    takes.

    Args:
        buffers: memory whose inputs are on the GPU.

    Raises:
        GpuError: the GPU failed.
        BackendError: TensorRT refuses a buffer or does not start.
    """
    context = engine.create_execution_context()
    if context is None:
        raise BackendError("TensorRT has no memory for a second context; the layers are not timed")
    profiler = _make_profiler(trt)
    for name, address in buffers.device.items():
        if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT and -1 in tuple(engine.get_tensor_shape(name)):
            context.set_input_shape(name, buffers.host[name].shape)
        if not context.set_tensor_address(name, address):
            raise BackendError(f"TensorRT refuses the buffer of '{name}'")
    _run(rt, context, stream)  # sets itself up
    context.profiler = profiler
    for _ in range(runs):
        _run(rt, context, stream)
    return {name: milliseconds / 1e3 / runs for name, milliseconds in profiler.milliseconds.items()}


def run_time(rt: Any, enqueue: Callable[[], None], stream: Any, runs: int) -> float:
    """Return the seconds of one frame without copies, mean of `runs` frames that are started one after the other.

    Args:
        enqueue: starts the work of one frame on `stream`, as a CUDA graph where there is one.

    Raises:
        GpuError: the GPU failed.
    """
    enqueue()
    checked(rt.cudaStreamSynchronize(stream), "running the engine")
    begin = time.perf_counter()
    for _ in range(runs):
        enqueue()
    checked(rt.cudaStreamSynchronize(stream), "running the engine")
    return (time.perf_counter() - begin) / runs


def _run(rt: Any, context: Any, stream: Any) -> None:
    if not context.execute_async_v3(int(stream)):
        raise BackendError("TensorRT cannot start the engine; the layers are not timed")
    checked(rt.cudaStreamSynchronize(stream), "running the engine")


def _make_profiler(trt: Any) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[misc]  # the base comes from the argument
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.milliseconds: dict[str, float] = defaultdict(float)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.milliseconds[layer_name] += ms

    return Profiler()
