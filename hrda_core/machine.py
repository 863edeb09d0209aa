"""Describes what a run or a timing was made on: processor, cores, package versions, commit, and memory of this process.

Benchmarks, the `environment.json` of a training run and the choice of the thread count all ask here.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hrda_core.nvidia_driver import Driver, probe_driver

__all__ = [
    "commit",
    "cpu_model",
    "load_average",
    "machine",
    "peak_memory_bytes",
    "reset_peak_memory",
    "usable_cores",
    "versions",
]

_PACKAGES = (
    "hrda_ros",
    "cuda-python",
    "lightning-fabric",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python-headless",
    "openvino",
    "ros-fastdds",
    "ros-rclpy",
    "safetensors",
    "tensorrt",
    "timm",
    "torch",
    "torchvision",
)
_ROOT = Path(__file__).resolve().parents[1]


def machine() -> dict[str, Any]:
    """Return processor, cores, load average and system, and the clocks or power mode of a GPU if there is one."""
    facts: dict[str, Any] = {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "load_average": load_average(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }
    driver = probe_driver()
    return {**facts, "gpu": _gpu(driver)} if isinstance(driver, Driver) else facts


def load_average() -> list[float]:
    """Return the mean number of processes that wanted to run in the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that matter for timings and training, without absent packages."""
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def commit() -> str:
    """Return the commit of the source tree, with `+changes` if files differ from it; `unknown` outside a git clone."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        return f"{name}+changes" if _git("status", "--porcelain", "--untracked-files=no") else name
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def reset_peak_memory() -> bool:
    """Let `peak_memory_bytes` count from now. If the kernel cannot do so, return False: it counts from the start."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_memory_bytes() -> int:
    """Return the peak of this process's memory in RAM since `reset_peak_memory`, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _gpu(driver: Driver) -> dict[str, Any]:
    gpu = driver.gpu
    return {
        "name": gpu.name,
        "compute_capability": ".".join(map(str, gpu.compute_capability)),
        "sm_count": gpu.sm_count,
        "memory_bytes": gpu.memory_bytes,
        "driver_cuda": ".".join(map(str, driver.cuda_version)),
        "power": _power(),
    }


def _power() -> str:
    """Clocks and power limit, or the power mode of a Jetson, in the words of the tool that tells them."""
    fields = "clocks.sm,clocks.max.sm,clocks.mem,power.limit,persistence_mode"
    for command in (["nvpmodel", "-q"], ["nvidia-smi", f"--query-gpu={fields}", "--format=csv"]):
        if shutil.which(command[0]) is None:
            continue
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
            return "; ".join(line.strip() for line in done.stdout.splitlines() if line.strip())
    return "unknown"


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def usable_cores() -> int:
    """Return how many processor cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def cpu_model() -> str:
    """Return the name of the processor, or of the board if the kernel has no name for the processor (Jetson)."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    try:
        board = Path("/proc/device-tree/model").read_text(encoding="utf-8").rstrip("\0")
    except OSError:
        board = ""
    return next((name for name in (*names, board, platform.processor()) if name), platform.machine())
