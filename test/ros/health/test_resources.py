"""What the process holds, as diagnostics tell it: of this process, and of stand-ins for NVIDIA's libraries."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hrda_ros.health import resources
from hrda_ros.health.resources import GpuMemory, ResourceMeter, Resources

MIB = 1 << 20


class Nvml:
    """NVIDIA's management library as `pynvml` gives it; the process with the number `pid` holds 300 MiB."""

    def __init__(self, pid: int) -> None:
        self.pid, self.asked = pid, []

    def nvmlInit(self) -> None:  # noqa: N802
        self.asked.append("init")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        self.asked.append(index)
        return index

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:  # noqa: N802
        self.asked.append(name)
        return name

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        return SimpleNamespace(used=900 * MIB, total=8000 * MIB)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=self.pid, usedGpuMemory=300 * MIB), SimpleNamespace(pid=1, usedGpuMemory=MIB)]


@pytest.fixture
def no_nvidia(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without NVIDIA's libraries, whatever is installed here."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    for name in ("cuda.bindings.runtime", "cuda.cudart"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def test_descriptors_and_threads_are_counted_and_memory_is_measured(no_nvidia: Any) -> None:
    meter, stop = ResourceMeter(), threading.Event()
    before = meter.look(on_cuda=False)
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(7)]
    thread = threading.Thread(target=stop.wait)
    thread.start()
    block = bytearray(os.urandom(1)) * (64 * MIB)
    after = meter.look(on_cuda=False)
    stop.set()
    thread.join()
    for descriptor in opened:
        os.close(descriptor)
    assert len(block) == 64 * MIB
    assert (after.descriptors - before.descriptors, after.threads - before.threads) == (7, 1)
    assert 50 < after.resident - before.resident < 80
    assert after.gpu == GpuMemory()


def test_where_the_system_says_nothing_nothing_is_made_up(no_nvidia: Any, tmp_path: Path) -> None:
    assert ResourceMeter(tmp_path / "none").look(on_cuda=True) == Resources()


@pytest.mark.parametrize(
    ("pid", "visible", "expected", "asked"),
    [
        (os.getpid(), None, GpuMemory(300.0, 900.0, 8000.0), 0),
        (os.getpid() + 1, "2,0", GpuMemory(None, 900.0, 8000.0), 2),
        (os.getpid(), "GPU-8f", GpuMemory(300.0, 900.0, 8000.0), "GPU-8f"),
    ],
    ids=["of this process", "of another one", "by its name"],
)
def test_the_management_library_is_asked_for_the_first_visible_gpu(
    no_nvidia: pytest.MonkeyPatch, pid: int, visible: str | None, expected: GpuMemory, asked: Any
) -> None:
    nvml = Nvml(pid)
    no_nvidia.setitem(sys.modules, "pynvml", nvml)
    if visible is not None:
        no_nvidia.setenv("CUDA_VISIBLE_DEVICES", visible)
    meter = ResourceMeter()
    assert [meter.look(on_cuda=False).gpu for _ in range(2)] == [expected] * 2
    assert nvml.asked == ["init", asked], "it is opened once"


def test_the_cuda_runtime_is_asked_only_where_the_back_end_runs_on_it(no_nvidia: pytest.MonkeyPatch) -> None:
    runtime = SimpleNamespace(cudaMemGetInfo=lambda: (0, 600 * MIB, 1000 * MIB))
    no_nvidia.setitem(sys.modules, "cuda.bindings.runtime", runtime)
    meter = ResourceMeter()
    assert meter.look(on_cuda=True).gpu == GpuMemory(None, 400.0, 1000.0)
    assert meter.look(on_cuda=False).gpu == GpuMemory()
    runtime.cudaMemGetInfo = lambda: (999, 0, 0)
    assert meter.look(on_cuda=True).gpu == GpuMemory()


def test_a_driver_that_fails_is_no_figure_and_no_error(no_nvidia: pytest.MonkeyPatch) -> None:
    nvml = Nvml(os.getpid())
    no_nvidia.setattr(nvml, "nvmlDeviceGetMemoryInfo", lambda handle: 1 / 0)
    no_nvidia.setitem(sys.modules, "pynvml", nvml)
    assert ResourceMeter().look(on_cuda=True).gpu == resources.NOTHING_KNOWN
