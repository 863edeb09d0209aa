"""Measures time, memory and operations of the arms of plan_costs.py."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from plan_costs_arms import NESTED, OVERLAP, Arm, Runner, graph_file, open_arm, padded

from hrda_core.bench.graph_ops import graph_ops
from hrda_core.bench.record import milliseconds
from hrda_core.deploy.folding import folded
from hrda_core.deploy.network import load_network
from hrda_core.inference import Bundle
from hrda_core.models import HRDA, create_model
from hrda_core.window_plan import PlanChoice, Size
from hrda_core.windows.flops import FlopCounter

__all__ = ["SPEED_SIZE", "flops_at_1080", "graph_gflop", "measure", "ratios"]

UInt8Array = npt.NDArray[np.uint8]

SPEED_SIZE: Size = (480, 640)
THREADS = (1, 2)
IN_ONE_BATCH = "nested, all crops in one batch"
SLOW_ROUNDS = 5
"""PyTorch's arms take part in each nth round only: they take most of the time and vary least."""

_MEMORY_OF = """
import sys
from pathlib import Path
import numpy as np
from hrda_core.inference.backends.onnx_backend import OnnxBackend
from hrda_core.machine import peak_memory_bytes
before = peak_memory_bytes()
backend = OnnxBackend(Path(sys.argv[1]), threads=1)
image = np.zeros((1, int(sys.argv[2]), int(sys.argv[3]), 3), np.uint8)
for _ in range(3):
    backend(image)
print(before >> 20, peak_memory_bytes() >> 20)
"""


def measure(arms: Sequence[Arm], work: Path, rounds: int) -> dict[str, Any]:
    """Measure wall and processor time of every arm with each number of threads, in turn, and the memory of graphs.

    Returns:
        figures by arm, and for `nested` in one batch.
    """
    image = _image()
    timed = list(arms)
    if any(arm.name == NESTED for arm in arms):
        timed.append(Arm(IN_ONE_BATCH, PlanChoice("nested"), "torch", max_batch=None))
    runners = {
        (arm.name, threads): open_arm(arm, work, SPEED_SIZE, [image], threads) for arm in timed for threads in THREADS
    }
    slow = {arm.name for arm in timed if arm.engine == "torch"}
    wall: dict[tuple[str, int], list[float]] = {key: [] for key in runners}
    processor: dict[tuple[str, int], list[float]] = {key: [] for key in runners}
    for number in range(-1, rounds):
        for key, runner in runners.items():
            if key[0] in slow and number > 0 and number % SLOW_ROUNDS:
                continue
            elapsed = _time(runner, image, key[1])
            if number >= 0:  # the round before the first warms up
                wall[key].append(elapsed[0])
                processor[key].append(elapsed[1])
        print(f"round {number + 1} of {rounds}", flush=True)
    figures: dict[str, Any] = {}
    for name, threads in runners:
        key = name, threads
        figures.setdefault(name, {})[f"threads_{threads}"] = {
            **milliseconds(wall[key]),
            "processor_p50_ms": milliseconds(processor[key])["p50_ms"],
        }
    for arm in arms:
        if arm.engine == "onnx":
            figures[arm.name]["memory_mib"] = _memory(arm, work)
    return figures


def _time(runner: Runner, image: UInt8Array, threads: int) -> tuple[float, float]:
    torch.set_num_threads(threads)
    begin, begin_processor = time.perf_counter(), time.process_time()
    runner(image)
    return time.perf_counter() - begin, time.process_time() - begin_processor


def ratios(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return how many times faster `tiles` in ONNX Runtime is than eager PyTorch, by plan of the latter.

    Returns:
        for each plan: with one thread each, in wall and processor time; with two threads each; and PyTorch with one or
        two threads, whichever is faster, over `tiles` with two.
    """
    found = {}
    fast = figures["tiles"]
    for name in (NESTED, IN_ONE_BATCH, OVERLAP):
        one, two = figures[name]["threads_1"], figures[name]["threads_2"]
        values = {
            "one_thread": one["p50_ms"] / fast["threads_1"]["p50_ms"],
            "one_thread_processor": one["processor_p50_ms"] / fast["threads_1"]["processor_p50_ms"],
            "two_threads": two["p50_ms"] / fast["threads_2"]["p50_ms"],
            "best_of_pytorch": min(one["p50_ms"], two["p50_ms"]) / fast["threads_2"]["p50_ms"],
        }
        found[name] = {key: round(value, 2) for key, value in values.items()}
    return found


def _memory(arm: Arm, work: Path) -> dict[str, int]:
    """Most memory of a process that does nothing else, before the graph is opened and at all, MiB."""
    path, size = graph_file(arm, work, SPEED_SIZE)
    command = [sys.executable, "-c", _MEMORY_OF, str(path), *map(str, size)]
    before, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return {"before": int(before), "peak": int(peak)}


def graph_gflop(arm: Arm, work: Path) -> float:
    """Return the GFLOP of one frame of 480 x 640: of the static graph, or of the plan in PyTorch."""
    if arm.engine == "onnx":
        path, size = graph_file(arm, work, SPEED_SIZE)
        return round(sum(op.flops for op in graph_ops(path, size)) / 1e9, 2)
    height, width = padded(_image(), arm.multiple).shape[:2]
    model = load_network(Bundle.open(arm.bundle))
    return round(FlopCounter(model)(arm.choice, height, width).giga, 2)


def flops_at_1080() -> dict[str, dict[str, float]]:
    """Return the GFLOP of one 1080 x 1920 frame through the paper's networks, counted on tensors without data."""
    found = {}
    for preset in ("hrda_mitb0", "hrda_mitb5"):
        model = create_model(preset, 19).eval()
        assert isinstance(model, HRDA)
        plain, light = FlopCounter(model), FlopCounter(folded(model))
        size = 1080, 1920
        tiles = light("tiles", *size)
        found[preset] = {
            "nested, as the reference runs it": plain(NESTED, *size, share_detail=False).giga,
            "nested, shared crops once": plain(NESTED, *size).giga,
            "tiles": plain("tiles", *size).giga,
            "tiles, folded": tiles.giga,
            "topk 3 of 6, folded": (tiles.window + 3 * tiles.crop) / 1e9,
            "context, folded": light("context", *size).giga,
        }
    return {preset: {name: round(value, 1) for name, value in rows.items()} for preset, rows in found.items()}


def _image() -> UInt8Array:
    """Streets are not needed for times: smooth noise, uint8 (480, 640, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (SPEED_SIZE[0] // 16, SPEED_SIZE[1] // 16, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, SPEED_SIZE[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
