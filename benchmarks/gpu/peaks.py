"""Measures what a device can do at most: a large matrix product in each number format, and a large copy."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from hrda_core.standard_streams import with_streams
from hrda_core.whole_files import write_json

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def best_seconds(run: Callable[[], object], device: str, repeats: int) -> float:
    """Return the shortest time of a call, of `repeats`, after two that warm up."""
    times = []
    for _ in range(repeats + 2):
        _wait(device)
        begin = time.perf_counter()
        run()
        _wait(device)
        times.append(time.perf_counter() - begin)
    return min(times[2:])


def measure(device: str, side: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return TFLOP/s of `side` x `side` products by number format, and GB/s of a copy, read and written bytes."""
    tflops = {}
    for name, dtype in DTYPES.items():
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        out = torch.empty(side, side, device=device, dtype=dtype)
        tflops[name] = 2 * side**3 / best_seconds(lambda a=a, b=b, o=out: torch.mm(a, b, out=o), device, repeats) / 1e12
    source = torch.empty(side * side * 4, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.numel() * source.element_size() / best_seconds(lambda: target.copy_(source), device, repeats)
    return {
        "tflops": {name: round(value, 4) for name, value in tflops.items()},
        "copy": {"gbs": round(copied / 1e9, 2)},
    }


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--side", type=int, default=8192, help="of the matrices (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, required=True, help="file for the figures")
    options = parser.parse_args()
    figures = measure(options.device, options.side, options.repeats)
    print(figures)
    write_json(options.json, figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "peaks"))
