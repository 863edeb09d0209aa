"""Memory of masks made in bands in each back end, against logits of the whole image: plan `context`, any size.

    python benchmarks/mask_memory.py 8 16                # megapixels; adds to benchmarks/results/mask_memory.json
    python benchmarks/mask_memory.py 64 --arms bands     # an arm that may not fit can be left out

The graphs are those of models/hrda_lite, written once with one band and once as they are exported. Each run is a
process of its own, which may take 16 GB, and predicts one image of noise twice. `peak_mb` is the most resident memory
beyond that before.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hrda_core.bench.record import RESULTS, ROOT, write_record
from hrda_core.deploy.deploy_graph import DeployGraph
from hrda_core.deploy.export import graph_for_any_size
from hrda_core.deploy.folding import folded
from hrda_core.deploy.network import load_network
from hrda_core.deploy.onnx_writing import with_weights_in_half
from hrda_core.deploy.same_padding import pad_inside_convolutions
from hrda_core.inference import Bundle
from hrda_core.standard_streams import with_streams
from hrda_core.window_plan import PlanChoice

SIDES = {8: (2176, 3840), 16: (4096, 4096), 64: (8192, 8192)}
BACK_ENDS, ARMS, THREADS, LIMIT = ("torch", "onnxruntime", "openvino"), ("whole", "bands"), 2, 16 << 30


def main() -> None:
    """Measure every back end and arm; rows of other sizes in the record stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("megapixels", type=int, nargs="+", choices=SIDES)
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--back_ends", nargs="+", default=BACK_ENDS, choices=BACK_ENDS)
    parser.add_argument("--one", nargs=2, metavar=("BACK_END", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], options.arms[0], Path(options.one[1]), SIDES[options.megapixels[0]])))
        return
    rows = _rows_before()
    with tempfile.TemporaryDirectory() as folder:
        for arm in options.arms:
            (Path(folder) / f"{arm}.onnx").write_bytes(with_weights_in_half(graph_for_any_size(_graph(arm), 64)))
        for size in options.megapixels:
            for back_end in options.back_ends:
                for arm in options.arms:
                    row = _run(size, back_end, arm, Path(folder) / f"{arm}.onnx")
                    print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
                    rows[size, back_end, arm] = row
                    write_record(
                        "mask_memory",
                        figures={"rows": [rows[key] for key in sorted(rows)]},
                        settings={"plan": "context", "threads": THREADS, "limit_bytes": LIMIT},
                    )


def measure(back_end: str, arm: str, file: Path, size: tuple[int, int]) -> dict[str, float]:
    """Predict one image twice; return seconds of the second time, and megabytes at the most beyond those before."""
    run = _opened(back_end, arm, file, size)
    image = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        run(image)
        seconds = time.perf_counter() - start
    return {"seconds": round(seconds, 2), "peak_mb": round(_resident("VmHWM") - before)}


def _opened(back_end: str, arm: str, file: Path, size: tuple[int, int]) -> Callable[[Any], Any]:
    if back_end == "onnxruntime":
        from hrda_core.inference.backends.onnx_backend import OnnxBackend

        return OnnxBackend(file, threads=THREADS)
    if back_end == "torch":
        import torch

        from hrda_core.deploy.torch_runners import EagerRunner

        runner = EagerRunner(_graph(arm, padded_inside=False), torch.float32, THREADS)
        return lambda image: runner(torch.from_numpy(image))
    from hrda_core.inference.openvino.reading import read_graph, require_openvino

    # As `Compiler` does it, without the check against ONNX Runtime, whose memory would be counted.
    core = require_openvino().Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1}
    request = core.compile_model(read_graph(core, file, size), "CPU", settings).create_infer_request()
    return lambda image: request.infer({"image": image})


def _graph(arm: str, *, padded_inside: bool = True) -> DeployGraph:
    bundle = Bundle.open(ROOT / "models" / "hrda_lite")
    network = folded(load_network(bundle))
    if padded_inside:
        pad_inside_convolutions(network)
    graph = DeployGraph.for_any_size(network, PlanChoice("context"), bundle.mean, bundle.std).eval()
    if arm == "whole":
        graph._bands = 1
    return graph


def _run(size: int, back_end: str, arm: str, file: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, str(size), "--arms", arm, "--one", back_end, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    row: dict[str, Any] = {"megapixels": size, "back_end": back_end, "arm": arm}
    if done.returncode:
        return {**row, "failed": (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1][:200]}
    found = json.loads(done.stdout)
    height, width = SIDES[size]
    return {**row, **found, "bytes_per_pixel": round(found["peak_mb"] * 2**20 / height / width)}


def _rows_before() -> dict[tuple[int, str, str], dict[str, Any]]:
    file = RESULTS / "mask_memory.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["figures"]["rows"] if file.is_file() else []
    return {(row["megapixels"], row["back_end"], row["arm"]): row for row in rows}


def _resident(name: str) -> float:
    """Megabytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "mask_memory"))
