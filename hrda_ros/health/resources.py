"""What this process holds of the machine: memory, descriptors, threads, and memory of the GPU where it can be asked.

Needs no ROS. The figures of the process come from /proc. Those of the GPU come from NVIDIA's management library where
`pynvml` (package nvidia-ml-py) is installed, else from the CUDA runtime where the back end runs on it: elsewhere the
question itself would take memory of the GPU.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["NOTHING_KNOWN", "UNKNOWN", "GpuMemory", "ResourceMeter", "Resources"]

_MIB = 1 << 20
_CUDA_RUNTIMES = ("cuda.bindings.runtime", "cuda.cudart")


@dataclass(frozen=True)
class GpuMemory:
    """Memory of the first GPU, MiB; None where nobody says.

    Attributes:
        process: what this process holds.
        used, total: what all processes hold, and what there is.
    """

    process: float | None = None
    used: float | None = None
    total: float | None = None


NOTHING_KNOWN = GpuMemory()


@dataclass(frozen=True)
class Resources:
    """What the process holds at one moment.

    Attributes:
        resident: memory that is in RAM, MiB; None where the system does not say.
        descriptors, threads: numbers of open descriptors and of threads; None likewise.
        gpu: memory of the GPU.
    """

    resident: float | None = None
    descriptors: int | None = None
    threads: int | None = None
    gpu: GpuMemory = NOTHING_KNOWN


UNKNOWN = Resources()


class ResourceMeter:
    """Looks at the process that it is in.

    Args:
        proc: folder of the process in the proc file system.
    """

    def __init__(self, proc: Path = Path("/proc/self")) -> None:
        self._proc = proc
        self._looked_for_nvml = False
        self._ask_nvml: Callable[[], GpuMemory] | None = None

    def look(self, *, on_cuda: bool) -> Resources:
        """Return the figures of now. This never raises.

        Args:
            on_cuda: whether the back end runs on the CUDA runtime.
        """
        status = self._status()
        resident_kib = status.get("VmRSS")
        return Resources(
            resident=None if resident_kib is None else resident_kib / 1024,
            descriptors=self._descriptors(),
            threads=status.get("Threads"),
            gpu=self._gpu(on_cuda),
        )

    def _status(self) -> dict[str, int]:
        try:
            lines = (self._proc / "status").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return {}
        rows = (line.split() for line in lines)
        return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}

    def _descriptors(self) -> int | None:
        try:
            return len(os.listdir(self._proc / "fd"))
        except OSError:
            return None

    def _gpu(self, on_cuda: bool) -> GpuMemory:
        with suppress(Exception):  # no driver, one that was updated under a running robot, a GPU that is gone
            if not self._looked_for_nvml:
                self._looked_for_nvml = True
                self._ask_nvml = _open_nvml()
            if self._ask_nvml is not None:
                return self._ask_nvml()
        with suppress(Exception):
            if on_cuda:
                return _from_cuda_runtime()
        return NOTHING_KNOWN


def _open_nvml() -> Callable[[], GpuMemory] | None:
    """What asks NVML about the GPU that CUDA_VISIBLE_DEVICES puts first; None where it is not installed."""
    try:
        import pynvml
    except ImportError:
        return None
    pynvml.nvmlInit()
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    named = not first.isdigit()
    handle = pynvml.nvmlDeviceGetHandleByUUID(first) if named else pynvml.nvmlDeviceGetHandleByIndex(int(first))
    return lambda: _from_nvml(pynvml, handle)


def _from_nvml(nvml: Any, handle: Any) -> GpuMemory:
    whole = nvml.nvmlDeviceGetMemoryInfo(handle)
    own = [
        process.usedGpuMemory
        for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        if process.pid == os.getpid()
    ]
    # In a container the numbers of processes are others, so the own one may not be among them.
    process = own[0] / _MIB if own and own[0] else None
    return GpuMemory(process, whole.used / _MIB, whole.total / _MIB)


def _from_cuda_runtime() -> GpuMemory:
    runtime = next(sys.modules[name] for name in _CUDA_RUNTIMES if name in sys.modules)
    code, free, total = runtime.cudaMemGetInfo()
    return GpuMemory(None, (total - free) / _MIB, total / _MIB) if int(code) == 0 else NOTHING_KNOWN
