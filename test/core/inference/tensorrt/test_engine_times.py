"""What is done with the times that TensorRT reports; doubles stand for TensorRT and CUDA, which cannot run here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hrda_core.errors import BackendError
from hrda_core.inference.tensorrt.buffers import Buffers
from hrda_core.inference.tensorrt.engine_times import layer_times, run_time


class Context:
    """Reports two layers for each frame, like a context that has a profiler."""

    def __init__(self, *, starts: bool = True) -> None:
        self.profiler: Any = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.starts = starts

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        self.shapes[name] = shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address > 0

    def execute_async_v3(self, stream: int) -> bool:
        if self.profiler is not None:
            self.profiler.report_layer_time("conv", 2.0)
            self.profiler.report_layer_time("copy", 0.5)
        return self.starts


def engine(context: Context | None) -> Any:
    return SimpleNamespace(
        create_execution_context=lambda: context,
        get_tensor_mode=lambda name: "in" if name == "image" else "out",
        get_tensor_shape=lambda name: (1, -1, -1, 3) if name == "image" else (1, 4, 6),
    )


TRT = SimpleNamespace(IProfiler=object, TensorIOMode=SimpleNamespace(INPUT="in"))


@pytest.fixture
def rt() -> Any:
    calls: list[int] = []

    def synchronize(stream: int) -> tuple[int]:
        calls.append(stream)
        return (0,)

    return SimpleNamespace(cudaStreamSynchronize=synchronize, calls=calls)


def buffers(address: int = 16) -> Buffers:
    return Buffers({"image": np.zeros((1, 4, 6, 3), np.uint8)}, {"image": address, "labels": 32})


def test_layers_are_means_over_the_frames_after_the_first(rt: Any) -> None:
    context = Context()
    assert layer_times(TRT, rt, engine(context), buffers(), 7, runs=4) == {"conv": 0.002, "copy": 0.0005}
    assert context.shapes == {"image": (1, 4, 6, 3)}
    assert context.addresses == {"image": 16, "labels": 32}
    assert rt.calls == [7] * 5


@pytest.mark.parametrize(
    ("context", "address", "reason"),
    [
        (None, 16, "no memory for a second context"),
        (Context(), 0, "refuses the buffer of 'image'"),
        (Context(starts=False), 16, "cannot start the engine"),
    ],
)
def test_a_refusal_is_one_sentence(rt: Any, context: Context | None, address: int, reason: str) -> None:
    with pytest.raises(BackendError, match=reason):
        layer_times(TRT, rt, engine(context), buffers(address), 7, runs=1)


def test_frames_without_copies_are_started_together_and_waited_for_once(rt: Any) -> None:
    started: list[int] = []
    seconds = run_time(rt, lambda: started.append(len(rt.calls)), 7, runs=3)
    assert started == [0, 1, 1, 1]
    assert len(rt.calls) == 2
    assert 0 < seconds < 1
