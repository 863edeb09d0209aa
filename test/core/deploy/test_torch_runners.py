"""The order of a frame's work in PyTorch. A double of CUDA keeps work on its stream until somebody waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hrda_core.deploy.torch_runners import CudaGraphRunner


class Stream:
    """Work that is done when somebody waits for this stream, and no earlier."""

    def __init__(self, device: Any = None) -> None:
        self.pending: list[Callable[[], None]] = []

    def synchronize(self) -> None:
        while self.pending:
            self.pending.pop(0)()


class Cuda:
    """Stands for `torch.cuda`: streams, events and recorded graphs.

    Attributes:
        current: the stream that work is put on; at first the default one, for which nobody ever waits.
        recording: work that goes into a graph instead; None = none does.
        replays: how many graphs were started.
    """

    def __init__(self) -> None:
        self.current = Stream()
        self.recording: list[Callable[[], None]] | None = None
        self.replays = 0

    def put(self, work: Callable[[], None]) -> None:
        (self.current.pending if self.recording is None else self.recording).append(work)

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before

    @contextmanager
    def graph(self, graph: Any, stream: Stream) -> Iterator[None]:
        assert not stream.pending, "the warm-up is not waited for"
        self.recording = graph.work
        with self.stream(stream):
            yield
        self.recording = None

    def make_event(self, enable_timing: bool) -> Any:
        cuda = self

        class Event:
            at: int | None = None

            def record(self, stream: Stream) -> None:
                stream.pending.append(lambda: setattr(self, "at", cuda.replays))

            def elapsed_time(self, other: Any) -> float:
                assert (self.at, other.at) == (cuda.replays - 1, cuda.replays), "the graph is not between the events"
                return 5.0

        return Event()

    def make_graph(self) -> Any:
        cuda = self

        class Graph:
            def __init__(self) -> None:
                self.work: list[Callable[[], None]] = []

            def replay(self) -> None:
                for work in [*self.work, cuda.count]:
                    cuda.put(work)

        return Graph()

    def count(self) -> None:
        self.replays += 1


class OnGpu(TorchFunctionMode):
    """Copies that need not be waited for go on the stream; memory of the GPU and pinned memory are copies."""

    def __init__(self, cuda: Cuda) -> None:
        super().__init__()
        self.cuda = cuda

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.copy_ and kwargs.get("non_blocking"):
            target, source = args
            self.cuda.put(lambda: np.copyto(target.numpy(), source.numpy()))
            return target
        if func in (Tensor.to, Tensor.pin_memory):
            return args[0].clone()
        return func(*args, **kwargs)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cuda]:
    double = Cuda()
    for name, value in {
        "Stream": Stream,
        "Event": double.make_event,
        "CUDAGraph": double.make_graph,
        "stream": double.stream,
        "graph": double.graph,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    with OnGpu(double):
        yield double


def _runner(cuda: Cuda) -> CudaGraphRunner:
    """Runs a "network" whose labels are the red and whose confidence is the green of the image."""

    def run(image: Tensor) -> list[Tensor]:
        outputs = [torch.zeros(image.shape[:3], dtype=torch.uint8) for _ in range(2)]

        def compute() -> None:
            for channel, output in enumerate(outputs):
                output.numpy()[...] = image.numpy()[..., channel]

        cuda.put(compute)
        return outputs

    return CudaGraphRunner(run, torch.device("cpu"), torch.float32)


def _picture(seed: int, width: int = 6) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, 4, width, 3), np.uint8))


def test_masks_are_those_of_the_image_that_was_given_and_stay_so(cuda: Cuda) -> None:
    runner = _runner(cuda)
    images = [_picture(0), _picture(1), _picture(2, width=8), _picture(3, width=8)]
    before = [image.clone() for image in images]
    masks = [runner(image) for image in images]
    for image, kept, (labels, confidence) in zip(images, before, masks, strict=True):
        np.testing.assert_array_equal(labels, image[..., 0].numpy())
        np.testing.assert_array_equal(confidence, image[..., 1].numpy())
        assert torch.equal(image, kept)
    assert cuda.replays == len(images)
    assert runner.device_seconds == 0.005


def test_all_work_of_a_frame_is_on_the_runners_own_stream_and_done_when_it_returns(cuda: Cuda) -> None:
    _runner(cuda)(_picture(0))
    assert not cuda.current.pending, "nobody waits for the default stream"
