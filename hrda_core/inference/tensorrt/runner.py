"""Runs a plan with a stream of its own, pinned buffers and a CUDA graph, one frame at a time. Needs no torch.

The work of a frame is put on one stream, which keeps its order: the image goes to the GPU, the engine runs, the masks
come back, and an event after them tells the waiting thread that they have arrived.

On a machine without a GPU nothing of this runs; tests here check the names of the calls against the real packages only.
"""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hrda_core.errors import BackendError, GpuError
from hrda_core.inference.tensorrt.api import make_log
from hrda_core.inference.tensorrt.buffers import Buffers, TensorSpec, make_buffers
from hrda_core.inference.tensorrt.cuda import checked
from hrda_core.inference.tensorrt.engine_times import layer_times, run_time

__all__ = ["EngineRunner"]

UInt8Array: TypeAlias = "npt.NDArray[np.uint8]"
_OUT_OF_MEMORY = ("out of memory", "outofmemory", "could not be allocated")


class EngineRunner:
    """A plan on the GPU. Use it from one caller at a time, and close it to free the GPU's memory.

    Args:
        trt: module `tensorrt`; call `hrda_core.nvidia_driver.require_driver` before importing it.
        rt: module of the CUDA runtime, see `cuda.require_cuda`.
        plan: bytes whose hash and owner were checked, since a plan is executable code.

    Attributes:
        inputs, outputs: tensors of the engine by name.
        graph_problem: why there is no CUDA graph; empty where there is one.

    Raises:
        GpuError: the memory is full, or the GPU failed otherwise.
        BackendError: TensorRT refuses the plan.
    """

    def __init__(self, trt: Any, rt: Any, plan: bytes) -> None:
        self._trt, self._rt = trt, rt
        self._log = make_log(trt)
        self._resources = ExitStack()
        self._streams: list[Any] = []
        # Also when nobody calls close(): a reloaded model must not keep the memory of the one before. Not when the
        # interpreter ends, where CUDA may be gone already and the driver frees everything.
        self._finalizer = weakref.finalize(self, _release, rt, self._streams, self._resources)
        self._finalizer.atexit = False
        self.graph_problem = ""
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._buffers: Buffers | None = None
        self._graph: Any = None
        try:
            self._open(plan)
        except BaseException as error:
            self.close()
            if isinstance(error, RuntimeError):  # cuda-python 12 raises these where 13 returns a code
                raise GpuError(f"the GPU failed while the engine was loaded: {error}") from error
            raise

    def run(self, image: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
        """Return labels and confidence of one image, uint8 (1, H, W) each, as arrays that the caller owns.

        Args:
            image: uint8 (1, H, W, 3) of the engine's size.

        Raises:
            BackendError: the image has another size, or the runner was closed.
            GpuError: the GPU failed.
        """
        rt, buffers = self._rt, self._opened()
        self._check(image)
        np.copyto(buffers.host["image"], image)
        self._upload("image")
        self._start()
        for name in self.outputs:
            self._download(name)
        checked(rt.cudaEventRecord(self._finished, self._stream), "recording an event")
        checked(rt.cudaEventSynchronize(self._finished), "running the engine")
        return buffers.host["labels"].copy(), buffers.host["confidence"].copy()

    def time_layers(self, runs: int) -> dict[str, float]:
        """Return the seconds of each layer, mean of `runs` frames; see `engine_times`."""
        return layer_times(self._trt, self._rt, self._engine, self._opened(), self._stream, runs)

    def time_runs(self, runs: int) -> float:
        """Return the seconds of a frame without copies, mean of `runs` frames."""
        return run_time(self._rt, self._start, self._stream, runs)

    def close(self) -> None:
        """Free everything. It is safe to call this twice."""
        self._buffers = self._graph = None
        self._finalizer()
        self._context = self._engine = self._runtime = None

    def _open(self, plan: bytes) -> None:
        self._load(plan)
        self.inputs, self.outputs = self._tensors()
        self._stream, self._finished = self._make_stream(), self._make_event()
        self._buffers = make_buffers(self._rt, (*self.inputs.values(), *self.outputs.values()), self._resources)
        self._capture()

    def _opened(self) -> Buffers:
        if self._buffers is None:
            raise BackendError("this engine was closed; open it again")
        return self._buffers

    def _load(self, plan: bytes) -> None:
        trt = self._trt
        try:
            self._runtime = trt.Runtime(self._log)
        except (RuntimeError, TypeError) as error:  # what the bindings make of a null pointer
            raise GpuError(f"TensorRT {trt.__version__} cannot use the GPU: {self._reason()}") from error
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._refusal()
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._failure("cannot prepare the engine")

    def _tensors(self) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
        trt, engine = self._trt, self._engine
        inputs: dict[str, TensorSpec] = {}
        outputs: dict[str, TensorSpec] = {}
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        for name in names:
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT and -1 in tuple(engine.get_tensor_shape(name)):
                # Smallest, usual and largest shape of the profile are the same: the size that the engine is for.
                self._context.set_input_shape(name, tuple(engine.get_tensor_profile_shape(name, 0)[1]))
        for name in names:
            kind = inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            kind[name] = TensorSpec(name, dtype, tuple(self._context.get_tensor_shape(name)))
        return inputs, outputs

    def _make_stream(self) -> Any:
        stream = checked(self._rt.cudaStreamCreateWithFlags(self._rt.cudaStreamNonBlocking), "making a stream")
        self._resources.callback(self._rt.cudaStreamDestroy, stream)
        self._streams.append(stream)
        return stream

    def _make_event(self) -> Any:
        # A thread that waits sleeps instead of spinning: the CPU belongs to the rest of the robot.
        flags = self._rt.cudaEventBlockingSync | self._rt.cudaEventDisableTiming
        event = checked(self._rt.cudaEventCreateWithFlags(flags), "making an event")
        self._resources.callback(self._rt.cudaEventDestroy, event)
        return event

    def _capture(self) -> None:
        """Record the engine's work as a CUDA graph. Without one every kernel is launched by itself."""
        rt = self._rt
        for values in self._opened().host.values():
            values.fill(0)
        for name in self.inputs:
            self._upload(name)
        self._enqueue()  # TensorRT sets itself up at the first run, which must not be recorded
        checked(rt.cudaStreamSynchronize(self._stream), "running the engine for the first time")
        try:
            self._graph = self._recorded()
        except BackendError as error:
            self.graph_problem = str(error)
            rt.cudaGetLastError()  # clears it: the next call would report it again
            checked(rt.cudaStreamSynchronize(self._stream), "recovering from the recording of a CUDA graph")

    def _recorded(self) -> Any:
        rt = self._rt
        # Other threads may go on to allocate memory, which would spoil a recording in global mode.
        mode = rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(rt.cudaStreamBeginCapture(self._stream, mode), "beginning a CUDA graph")
        problem: GpuError | None = None
        try:
            self._enqueue()
        except GpuError as error:
            problem = error
        ended = rt.cudaStreamEndCapture(self._stream)  # always: the stream stays in recording mode otherwise
        if problem is not None:
            raise problem
        recorded = checked(ended, "recording a CUDA graph")
        graph = checked(rt.cudaGraphInstantiate(recorded, 0), "making a CUDA graph")
        self._resources.callback(rt.cudaGraphExecDestroy, graph)
        rt.cudaGraphDestroy(recorded)
        return graph

    def _start(self) -> None:
        """Start the engine's work on the stream."""
        if self._graph is None:
            self._enqueue()
        else:
            checked(self._rt.cudaGraphLaunch(self._graph, self._stream), "running the engine")

    def _enqueue(self) -> None:
        for name, address in self._opened().device.items():
            if not self._context.set_tensor_address(name, address):
                raise self._failure(f"refuses the buffer of '{name}'")
        if not self._context.execute_async_v3(int(self._stream)):
            raise self._failure("cannot start the engine")

    def _upload(self, name: str) -> None:
        host, device = self._opened().host[name], self._opened().device[name]
        kind = self._rt.cudaMemcpyKind.cudaMemcpyHostToDevice
        copied = self._rt.cudaMemcpyAsync(device, int(host.ctypes.data), host.nbytes, kind, self._stream)
        checked(copied, f"copying '{name}'")

    def _download(self, name: str) -> None:
        host, device = self._opened().host[name], self._opened().device[name]
        kind = self._rt.cudaMemcpyKind.cudaMemcpyDeviceToHost
        copied = self._rt.cudaMemcpyAsync(int(host.ctypes.data), device, host.nbytes, kind, self._stream)
        checked(copied, f"copying '{name}'")

    def _check(self, image: UInt8Array) -> None:
        spec = self.inputs["image"]
        if image.dtype != spec.dtype or image.shape != spec.shape:
            raise BackendError(
                f"the engine takes images as {spec.dtype} {spec.shape}, found {image.dtype} {image.shape}; an engine "
                f"is for one image size: export one for this size with 'hrda export --size'"
            )

    def _failure(self, what: str) -> GpuError:
        return GpuError(f"TensorRT {self._trt.__version__} {what}: {self._reason()}")

    def _refusal(self) -> BackendError:
        if any(words in error.lower() for error in self._log.errors for words in _OUT_OF_MEMORY):
            return self._failure("has no memory for the engine")
        return BackendError(
            f"TensorRT {self._trt.__version__} does not take the engine: {self._reason()}; "
            f"build it again with 'hrda export BUNDLE --engine'"
        )

    def _reason(self) -> str:
        return self._log.errors[-1][:300] if self._log.errors else "it gives no reason"


def _release(rt: Any, streams: list[Any], resources: ExitStack) -> None:
    """Free memory, events, graphs and streams, once nothing runs on them any more."""
    for stream in streams:
        rt.cudaStreamSynchronize(stream)  # its answer does not matter: a failed GPU is no reason to keep memory
    resources.close()
