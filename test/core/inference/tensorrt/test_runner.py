"""The order of a frame's work. A double of CUDA keeps work on its stream until somebody waits for it, as a GPU may."""
# ruff: noqa: N802, N815  # names of CUDA

from __future__ import annotations

import ctypes
from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hrda_core.errors import BackendError, GpuError
from hrda_core.inference.tensorrt.runner import EngineRunner

SHAPES = {"image": (1, 4, 6, 3), "labels": (1, 4, 6), "confidence": (1, 4, 6)}


class Cuda:
    """Memory of host and GPU, streams that do nothing before somebody waits for them, and graphs.

    A wait does the work of one stream alone, and that for an event what stood before the event alone.

    Attributes:
        pending: work that stands on each stream.
        recording: work that goes into a graph instead, and the stream that is recorded; None = none does.
        alive: what was made and is not freed, by kind and number.
        freed_busy: whether anything was freed while work stood on the stream.
        graphs: whether it can record.
    """

    cudaHostAllocDefault, cudaStreamNonBlocking, cudaEventBlockingSync, cudaEventDisableTiming = range(4)
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="up", cudaMemcpyDeviceToHost="down")
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal=0)

    def __init__(self, *, graphs: bool = True) -> None:
        self.pending: dict[int, list[Callable[[], None]]] = defaultdict(list)
        self.recording: tuple[int, list[Callable[[], None]]] | None = None
        self._events: dict[int, tuple[int, Callable[[], None]]] = {}
        self.alive: dict[tuple[str, int], Any] = {}
        self.freed_busy = False
        self.graphs, self._made = graphs, 0

    def put(self, work: Callable[[], None], stream: int) -> None:
        assert ("stream", stream) in self.alive, "work is put on the default stream, for which nobody waits"
        recorded = self.recording is not None and self.recording[0] == stream
        (self.recording[1] if recorded else self.pending[stream]).append(work)  # type: ignore[index]

    @property
    def busy(self) -> bool:
        return any(self.pending.values())

    def _make(self, kind: str, value: Any = None) -> tuple[int, int]:
        self._made += 1
        number = ctypes.addressof(value) if value is not None else self._made
        self.alive[kind, number] = value
        return 0, number

    def _free(self, kind: str, number: int) -> tuple[int]:
        self.freed_busy |= self.busy
        del self.alive[kind, number]
        return (0,)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[int, int]:
        return self._make("host", ctypes.create_string_buffer(size))

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        return self._make("device", ctypes.create_string_buffer(size))

    def cudaFreeHost(self, address: int) -> tuple[int]:
        return self._free("host", address)

    def cudaFree(self, address: int) -> tuple[int]:
        return self._free("device", address)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, int]:
        return self._make("stream")

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        return self._free("stream", stream)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[int, int]:
        return self._make("event")

    def cudaEventDestroy(self, event: int) -> tuple[int]:
        return self._free("event", event)

    def cudaMemcpyAsync(self, target: int, source: int, size: int, kind: str, stream: int) -> tuple[int]:
        self.put(lambda: ctypes.memmove(target, source, size) and None, stream)
        return (0,)

    def cudaEventRecord(self, event: int, stream: int) -> tuple[int]:
        def mark() -> None:
            pass

        self.put(mark, stream)
        self._events[event] = stream, mark
        return (0,)

    def cudaEventSynchronize(self, event: int) -> tuple[int]:
        stream, mark = self._events[event]
        while mark in self.pending[stream]:
            self.pending[stream].pop(0)()
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        while self.pending[stream]:
            self.pending[stream].pop(0)()
        return (0,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[int]:
        assert not self.busy, "the first run is not waited for"
        self.recording = stream, []
        return (0,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[int, Any]:
        assert self.recording is not None
        (_, recorded), self.recording = self.recording, None
        return (0, recorded) if self.graphs else (901, None)

    def cudaGraphInstantiate(self, recorded: Any, flags: int) -> tuple[int, int]:
        self._recorded = recorded
        return self._make("graph")

    def cudaGraphExecDestroy(self, graph: int) -> tuple[int]:
        return self._free("graph", graph)

    def cudaGraphDestroy(self, recorded: Any) -> tuple[int]:
        return (0,)

    def cudaGraphLaunch(self, graph: int, stream: int) -> tuple[int]:
        for work in self._recorded:
            self.put(work, stream)
        return (0,)

    def cudaGetLastError(self) -> tuple[int]:
        return (0,)


class Context:
    """An engine whose labels are the red and whose confidence is the green of the image."""

    def __init__(self, cuda: Cuda) -> None:
        self.cuda, self.addresses, self.starts = cuda, dict[str, int](), True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return SHAPES[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.cuda.put(self._compute, stream)
        return self.starts

    def _compute(self) -> None:
        image, labels, confidence = (self._memory(name) for name in SHAPES)
        labels[...], confidence[...] = image[..., 0], image[..., 1]

    def _memory(self, name: str) -> np.ndarray:
        size = int(np.prod(SHAPES[name]))
        return np.frombuffer((ctypes.c_uint8 * size).from_address(self.addresses[name]), np.uint8).reshape(SHAPES[name])


def tensorrt(cuda: Cuda, context: Context | None) -> Any:
    engine = SimpleNamespace(
        num_io_tensors=len(SHAPES),
        create_execution_context=lambda: context,
        get_tensor_name=lambda index: list(SHAPES)[index],
        get_tensor_mode=lambda name: "in" if name == "image" else "out",
        get_tensor_shape=lambda name: SHAPES[name],
        get_tensor_dtype=lambda name: np.uint8,
    )
    return SimpleNamespace(
        __version__="0",
        ILogger=object,
        TensorIOMode=SimpleNamespace(INPUT="in"),
        nptype=lambda dtype: dtype,
        Runtime=lambda log: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine),
    )


def opened(cuda: Cuda) -> EngineRunner:
    return EngineRunner(tensorrt(cuda, Context(cuda)), cuda, b"plan")


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SHAPES["image"], np.uint8)


@pytest.mark.parametrize("graphs", [True, False])
def test_masks_are_those_of_the_image_that_was_given_and_stay_so(graphs: bool) -> None:
    runner = opened(Cuda(graphs=graphs))
    assert ("901" in runner.graph_problem) is not graphs
    images = [picture(seed) for seed in range(3)]
    masks = [runner.run(image) for image in images]
    for image, (labels, confidence) in zip(images, masks, strict=True):
        np.testing.assert_array_equal(labels, image[..., 0])
        np.testing.assert_array_equal(confidence, image[..., 1])


@pytest.mark.parametrize("graphs", [True, False])
def test_when_masks_come_out_nothing_stands_on_the_gpu_any_more(graphs: bool) -> None:
    cuda = Cuda(graphs=graphs)
    runner = opened(cuda)
    assert not cuda.busy
    runner.run(picture(0))
    assert not cuda.busy


def test_an_image_of_another_size_or_a_closed_engine_is_refused() -> None:
    runner = opened(Cuda())
    with pytest.raises(BackendError, match=r"takes images as uint8 \(1, 4, 6, 3\), found uint8 \(1, 4, 4, 3\)"):
        runner.run(picture(0)[:, :, :4])
    runner.close()
    with pytest.raises(BackendError, match="was closed"):
        runner.run(picture(0))


def test_everything_is_freed_once_and_after_the_work_on_the_stream_has_ended() -> None:
    cuda = Cuda()
    runner = opened(cuda)
    assert {kind for kind, _ in cuda.alive} == {"host", "device", "stream", "event", "graph"}
    (stream,) = (number for kind, number in cuda.alive if kind == "stream")
    cuda.put(lambda: None, stream)  # of a frame that failed half-way
    runner.close()
    runner.close()
    assert not cuda.alive
    assert not cuda.freed_busy


def test_an_engine_that_does_not_start_frees_what_it_took() -> None:
    cuda = Cuda()
    context = Context(cuda)
    context.starts = False
    with pytest.raises(GpuError, match="cannot start the engine"):
        EngineRunner(tensorrt(cuda, context), cuda, b"plan")
    assert not cuda.alive
    assert not cuda.freed_busy
