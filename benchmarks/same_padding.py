"""What padding inside the convolutions gains in the graphs for any size: the shipped network with and without it.

    python benchmarks/same_padding.py    # a minute; writes benchmarks/results/same_padding.json

Both graphs are written from the weights of models/hrda_lite, run in turns on the same image by ONNX Runtime with one
thread, and compared pixel by pixel.
"""

from __future__ import annotations

import copy
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hrda_core.bench.record import ROOT, write_record
from hrda_core.deploy.deploy_graph import DeployGraph
from hrda_core.deploy.export import graph_for_any_size
from hrda_core.deploy.folding import folded
from hrda_core.deploy.network import load_network
from hrda_core.deploy.onnx_writing import with_weights_in_half
from hrda_core.deploy.same_padding import pad_inside_convolutions
from hrda_core.inference import Bundle
from hrda_core.inference.backends.onnx_backend import OnnxBackend
from hrda_core.standard_streams import with_streams
from hrda_core.window_plan import PlanChoice

SIZE = (480, 640)
RUNS = 25


def main() -> None:
    """Print the medians and write the record."""
    bundle = Bundle.open(ROOT / "models" / "hrda_lite")
    image = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    rows = []
    for plan, grid in (("tiles", (1, 1)), ("context", None)):
        with tempfile.TemporaryDirectory() as folder:
            before, after = _back_ends(bundle, PlanChoice(plan, grid), Path(folder))
            row = {"plan": plan, **_compared(before, after, image)}
        print(", ".join(f"{name} {value}" for name, value in row.items()))
        rows.append(row)
    print(f"wrote {write_record('same_padding', figures={'rows': rows}, settings={'size': SIZE, 'threads': 1})}")


def _back_ends(bundle: Bundle, choice: PlanChoice, folder: Path) -> list[OnnxBackend]:
    network = folded(load_network(bundle))
    changed = copy.deepcopy(network)
    pad_inside_convolutions(changed)
    found = []
    for name, model in (("before", network), ("after", changed)):
        file = folder / f"{name}.onnx"
        graph = DeployGraph.for_any_size(model, choice, bundle.mean, bundle.std).eval()
        file.write_bytes(with_weights_in_half(graph_for_any_size(graph, bundle.multiple_of)))
        found.append(OnnxBackend(file, threads=1))
    return found


def _compared(before: OnnxBackend, after: OnnxBackend, image: np.ndarray) -> dict[str, Any]:
    """Run both in turns, so that other work on the machine meets both alike."""
    taken: dict[str, list[float]] = {"before": [], "after": []}
    answers = {}
    for _ in range(RUNS):
        for name, backend in (("before", before), ("after", after)):
            start = time.perf_counter()
            answers[name] = backend(image)
            taken[name].append(time.perf_counter() - start)
    milliseconds = {f"{name}_ms": round(1e3 * median(values), 1) for name, values in taken.items()}
    return {
        **milliseconds,
        "ratio": round(median(taken["before"]) / median(taken["after"]), 3),
        "same_labels": round(float((answers["before"][0] == answers["after"][0]).mean()), 6),
    }


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "same_padding"))
