"""What every benchmark writes: figures with the machine, the versions, the load and the commit they were taken on.

    from hrda_core.bench.record import write_record
    write_record("node_overhead", figures={"p50_ms": 4.2}, settings={"frames": 200})

Files go to benchmarks/results/NAME.json.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "torch", "ros-rclpy", "ros-fastdds")


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Summary of durations: count, and min, p10, p50, p95, max in milliseconds."""
    values = 1e3 * np.asarray(seconds, float)
    if not values.size:
        return {"count": 0}
    p10, p50, p95 = np.percentile(values, (10, 50, 95))
    summary = {"min_ms": values.min(), "p10_ms": p10, "p50_ms": p50, "p95_ms": p95, "max_ms": values.max()}
    return {"count": len(values), **{name: round(float(value), 3) for name, value in summary.items()}}


def machine() -> dict[str, Any]:
    """Processor, usable cores, load average and operating system."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that matter for timings; absent ones are left out."""
    installed = {entry.name: entry.version for entry in importlib.metadata.distributions()}
    return {package: installed[package] for package in PACKAGES if package in installed}


def commit() -> str:
    """Present commit, with `+changes` where the working tree differs from it; `unknown` without git."""
    try:
        name = _git("rev-parse", "--short=12", "HEAD")
        return f"{name}+changes" if _git("status", "--porcelain", "--untracked-files=no") else name
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def write_record(
    name: str, *, figures: Mapping[str, Any], settings: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> Path:
    """Write benchmarks/results/NAME.json and return its path.

    Args:
        name: file name without ending.
        figures: what was measured.
        settings: what it was measured with.
        before: `machine()` from the start of the run, to show the load that was there already; None = taken now.
    """
    record = {
        "benchmark": name,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": before or machine(),
        "load_average_after": [round(value, 2) for value in os.getloadavg()],
        "versions": versions(),
        "settings": dict(settings),
        "figures": dict(figures),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
