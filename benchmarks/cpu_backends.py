"""Times OpenVINO against ONNX Runtime on the graphs of a bundle, in turn, and against a large matrix product.

    python benchmarks/cpu_backends.py                                # models/hrda_lite, 640x480, 1 and 2 threads
    python benchmarks/cpu_backends.py --also models/mine --rounds 50

Every round runs one image in each back end and one matrix product, so that a change of the machine's load meets all of
them: ratios hold on a busy machine, times do not. Processor time hardly depends on the load; it is given beside the
wall time. The shares of the peak are FLOPs over time, and over the rate of the product in the same run. The record is
benchmarks/results/cpu_backends.json.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from os import environ
from pathlib import Path
from typing import Any

import numpy as np

from hrda_core.bench.graph_ops import graph_ops
from hrda_core.bench.record import ROOT, write_record
from hrda_core.bench.roofline import large_product
from hrda_core.bench.timing import Candidate, Samples, interleave
from hrda_core.errors import HrdaError
from hrda_core.inference.backends import Backend, open_backend
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.inference.image_plan import plan_for_graph
from hrda_core.inference.made_image import golden_image
from hrda_core.inference.openvino.options import OpenVinoOptions
from hrda_core.machine import machine
from hrda_core.standard_streams import with_streams

SIZE = (480, 640)
ARMS: dict[str, tuple[str, OpenVinoOptions | None]] = {
    "onnxruntime": ("onnx", None),
    "openvino": ("openvino", OpenVinoOptions()),
    "openvino bf16": ("openvino", OpenVinoOptions(precision="bf16")),
}


def main() -> None:
    """Measure every graph of every bundle with every number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--also", type=Path, action="append", default=[], help="another bundle")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--name", default="cpu_backends", help="of the file below benchmarks/results")
    options = parser.parse_args()
    before = machine()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        environ["HRDA_CACHE"] = folder  # compiled here and now
        for path in [ROOT / "models" / "hrda_lite", *options.also]:
            bundle = Bundle.open(path)
            for graph in [*bundle.graphs.values(), *bundle.static_graphs]:
                for threads in options.threads:
                    rows.append(measure(bundle, graph, threads, options.rounds))
                    print_row(rows[-1])
    settings = {"size": list(SIZE), "rounds": options.rounds}
    print(f"written: {write_record(options.name, figures={'rows': rows}, settings=settings, before=before)}")


def measure(bundle: Bundle, graph: GraphSpec, threads: int, rounds: int) -> dict[str, Any]:
    """Return the figures of one graph with a number of threads."""
    plan = plan_for_graph(bundle, graph, *(graph.size or SIZE))
    image = golden_image(plan.padded_height, plan.padded_width)
    flops = sum(op.flops for op in graph_ops(bundle.file(graph.file), image.shape[1:3]))
    backends, refused = open_all(bundle, graph, threads)
    product, product_flops = large_product(threads)
    runs: dict[str, Callable[[], object]] = {name: partial(backend, image) for name, backend in backends.items()}
    samples = interleave(
        {name: Candidate(partial(run_one, run), rounds) for name, run in {**runs, "product": product}.items()}
    )
    peak = {key: product_flops / value for key, value in times(samples["product"]).items()}
    base = times(samples["onnxruntime"])
    wanted = backends["onnxruntime"](image)[0]
    arms = {}
    for name, backend in backends.items():
        found = times(samples[name])
        arms[name] = {
            "backend": backend.info.what,
            "latency": samples[name].to_dict(),
            "faster_by": {key: round(base[key] / found[key], 3) for key in found},
            "share_of_product_peak": {key: round(flops / found[key] / peak[key], 3) for key in found},
            "equal_labels": round(float((backend(image)[0] == wanted).mean()), 6),
        }
        backend.close()
    return {
        "bundle": bundle.name,
        "plan": graph.plan,
        "graph": f"{graph.file} ({'any size' if graph.size is None else 'one size'}, {graph.precision})",
        "padded": list(image.shape[1:3]),
        "threads": threads,
        "gflop": round(flops / 1e9, 3),
        "product_gflops": {key: round(value / 1e9, 1) for key, value in peak.items()},
        "arms": arms,
        "refused": refused,
    }


def open_all(bundle: Bundle, graph: GraphSpec, threads: int) -> tuple[dict[str, Backend], dict[str, str]]:
    """The back ends that run the graph here, and why the others do not."""
    opened, refused = {}, {}
    for name, (backend, options) in ARMS.items():
        try:
            opened[name] = open_backend(backend, bundle, graph, threads=threads, openvino=options)
        except HrdaError as error:  # noqa: PERF203
            refused[name] = str(error)
    return opened, refused


def times(samples: Samples) -> dict[str, float]:
    """Seconds by kind: medians of wall and processor time, and the quickest run."""
    return {"median": samples.p50, "cpu": float(np.median(samples.cpu)), "quickest": min(samples.wall)}


def run_one(run: Callable[[], object]) -> None:
    """Run it for `interleave`, which would take what it returns for a time."""
    run()


def print_row(row: dict[str, Any]) -> None:
    """Print one graph, one line for each back end."""
    print(f"{row['bundle']} {row['plan']} {row['graph']}, {row['threads']} thread(s), {row['gflop']} GFLOP")
    for name, arm in row["arms"].items():
        latency, faster, share = arm["latency"], arm["faster_by"], arm["share_of_product_peak"]
        print(
            f"  {name:14} p50 {latency['p50_ms']:7.1f} ms, {latency['rate_hz']:5.1f}/s, "
            f"least {latency['min_ms']:7.1f} ms, CPU {latency['cpu_ms']:6.1f} ms; "
            f"faster by {faster['median']:.2f} (CPU time {faster['cpu']:.2f}); "
            f"peak {share['median']:.0%} (CPU time {share['cpu']:.0%}); labels {arm['equal_labels']:.4%}"
        )
    for name, why in row["refused"].items():
        print(f"  {name}: {why}")


if __name__ == "__main__":
    raise SystemExit(with_streams(main, "cpu_backends"))
