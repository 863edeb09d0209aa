"""Runs ONNX graphs in OpenVINO and compares their labels; `int8.py` calls it with an interpreter that has openvino.

    python int8_openvino.py FOLDER GRAPH...

FOLDER holds GRAPH.onnx, `frames.npz` and `wanted.npz`. The output is one line of JSON. Each instruction set is tried in
a process of its own, since oneDNN reads its limit when it is loaded: without VNNI there are no exact 8-bit dot
products.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

LIMITS = ("", "AVX512_CORE_VNNI", "AVX512_CORE", "AVX2")
"""Values of ONEDNN_MAX_CPU_ISA; empty = all that the processor has."""

TIMED = 20


def main(folder: Path, graphs: list[str]) -> int:
    """Run one child for each limit."""
    if "HRDA_LIMIT" in os.environ:
        print(json.dumps(measure(folder, graphs)))
        return 0
    figures: dict[str, Any] = {}
    for limit in LIMITS:
        environment = {**os.environ, "HRDA_LIMIT": limit, **({"ONEDNN_MAX_CPU_ISA": limit} if limit else {})}
        done = subprocess.run(
            [sys.executable, __file__, str(folder), *graphs], env=environment, capture_output=True, text=True
        )
        line = done.stdout.splitlines()[-1] if done.returncode == 0 else json.dumps({"error": done.stderr[-300:]})
        figures[limit or "native"] = json.loads(line)
    print(json.dumps(figures))
    return 0


def measure(folder: Path, graphs: list[str]) -> dict[str, Any]:
    """Return the share of equal labels by domain, and the processor time of one thread, of each graph."""
    import openvino

    core = openvino.Core()
    frames, wanted = np.load(folder / "frames.npz"), np.load(folder / "wanted.npz")
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    requests = {
        name: core.compile_model(core.read_model(folder / f"{name}.onnx"), "CPU", settings).create_infer_request()
        for name in graphs
    }
    found: dict[str, Any] = {"openvino": openvino.__version__}
    times: dict[str, list[float]] = {name: [] for name in graphs}
    for number in range(TIMED):
        for name, request in requests.items():
            image = frames["day"][number % len(frames["day"])]
            begin = time.process_time()
            request.infer({"image": image})
            times[name].append(time.process_time() - begin)
    for name, request in requests.items():
        equal = {domain: round(equal_labels(request, frames[domain], wanted[domain]), 4) for domain in frames.files}
        found[name] = {**equal, "processor_p50_ms": round(1e3 * median(times[name][2:]), 2)}
    return found


def equal_labels(request: Any, images: np.ndarray, wanted: np.ndarray) -> float:
    """Return the share of pixels with the wanted label, mean over images."""
    found = np.stack([request.infer({"image": image})["labels"] for image in images])
    return float((found == wanted).mean())


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
