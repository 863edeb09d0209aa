"""`hrda bench`: how fast a model bundle runs on this machine, and how far that is from what the machine could do.

    hrda bench models/hrda_lite --size 480x640                                ONNX Runtime, or an engine that is there
    hrda bench models/hrda_lite --size 480x640 --baseline nested              against eager PyTorch, in the same run
    hrda bench BUNDLE --size 1080x1920 --backend tensorrt --precision fp16 --json record.json
    hrda bench models/hrda_lite --backend openvino                            OpenVINO
    hrda bench models/hrda_lite --sweep_threads                               find and keep the best number of threads

Sizes are HEIGHTxWIDTH. docs/robot/benchmarking.md explains the figures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hrda_core.bench.record import record
from hrda_core.bench.request import BenchRequest, requested_graph
from hrda_core.inference.bundle import Bundle
from hrda_core.inference.thread_choice import keep_choice
from hrda_core.machine import machine
from hrda_core.whole_files import write_json

from .arguments import model_folder, pair, parse_request
from .progress import ProgressPrinter

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Parse, measure, print, and write the record. Return the exit code."""
    read = {"bundle": model_folder, "size": pair("--size")}
    request, json = parse_request(BenchRequest, argv, verb="bench", about=__doc__, positional="bundle", read=read)
    bundle = Bundle.open(request.bundle)
    before = machine()
    with ProgressPrinter() as printer:
        if before["load_average"][0] > before["cores"] / 2:
            load = f"load {before['load_average'][0]} on {before['cores']} cores"
            printer.say(f"other processes are busy ({load}): figures suffer")
        if request.sweep_threads:
            runtime = "openvino" if request.backend == "openvino" else "onnx"
            result = _sweep(bundle, replace(request, backend=runtime), printer)
        else:
            result = _bench(bundle, request, printer)
    if json:
        write_json(json, record(**result, before=before))
        print(f"written: {json}")
    return 0


def _bench(bundle: Bundle, request: BenchRequest, printer: ProgressPrinter) -> dict[str, Any]:
    from hrda_core.bench.run import run_bench

    result = run_bench(bundle, request, say=printer.say, count=printer.counter("frames"), building=printer.build)
    _print(result["figures"], request.layers)
    return {"name": "bench", **result}


def _sweep(bundle: Bundle, request: BenchRequest, printer: ProgressPrinter) -> dict[str, Any]:
    from hrda_core.bench.run import sweep_threads

    graph = requested_graph(bundle, request)
    times = sweep_threads(bundle, request, count=printer.counter("frames"))
    print(f"{'threads':>7} {'p50 ms':>9} {'p95 ms':>9} {'images/s':>9} {'CPU ms':>9}")
    for threads, samples in times.samples.items():
        row = samples.to_dict()
        mark = "  <- kept" if threads == times.best else ""
        columns = (row["p50_ms"], row["p95_ms"], row["rate_hz"], row["cpu_ms"])
        print(f"{threads:>7} " + " ".join(f"{value:9.2f}" for value in columns) + mark)
    runtime = "openvino" if request.backend == "openvino" else "onnxruntime"
    kept = keep_choice(bundle.file(graph.file), times.best, times.p50_ms, runtime)
    print(f"kept for '{graph.file}' on this machine: {times.best} threads ({kept})")
    return {
        "name": "bench_threads",
        "settings": {"bundle": bundle.name, "plan": graph.plan, "graph": graph.file, "size": list(request.size)},
        "figures": {
            "best_threads": times.best,
            "latency": {str(threads): samples.to_dict() for threads, samples in times.samples.items()},
        },
    }


def _print(figures: dict[str, Any], layers: int) -> None:
    _print_latency(figures)
    _print_bound(figures)
    if rows := figures.get("layers"):
        _print_layers(rows, layers)
    if baseline := figures.get("baseline"):
        took = f"p50 {baseline['latency']['p50_ms']:.1f} ms, {baseline['gflop']:.1f} GFLOP"
        cpu = f"by CPU time {baseline['ratio_of_cpu_times']:.1f} times"
        faster = f"the bundle is {baseline['ratio_of_medians']:.1f} times as fast, {cpu}"
        print(f"baseline    plan {baseline['plan']}, {baseline['backend']}: {took}; {faster}")


def _print_latency(figures: dict[str, Any]) -> None:
    latency, memory = figures["latency"], figures["memory"]
    names = ("p10", "p50", "p95", "p99", "max")
    print("latency ms  " + "  ".join(f"{name} {latency[f'{name}_ms']:.2f}" for name in names))
    print(f"rate        {latency['rate_hz']:.2f} images/s, one by one; CPU time {latency['cpu_ms']:.1f} ms an image")
    if (bare := figures.get("without_copies_ms", latency["device_p50_ms"])) is not None:
        print(f"            {bare:.2f} ms without copies to and from the GPU")
    device = "" if memory["device_bytes"] is None else f"; GPU {memory['device_bytes'] / 2**20:.0f} MiB"
    peak, before = (memory[name] / 2**20 for name in ("peak_bytes", "before_bytes"))
    print(f"memory      {peak:.0f} MiB at most, {before:.0f} before the model was loaded{device}")
    if agreement := figures.get("agreement_with_onnxruntime"):
        print(f"agreement   {agreement['labels']:.3%} of the pixels have ONNX Runtime's class")


def _print_bound(figures: dict[str, Any]) -> None:
    if "gflop" not in figures:
        return
    moved = f", {figures['gbytes']:.3f} GB moved at least" if "gbytes" in figures else ""
    print(f"cost        {figures['gflop']:.2f} GFLOP{moved}; achieved {figures['achieved_gflops']:.1f} GFLOP/s")
    if bound := figures.get("roofline"):
        print(
            f"roofline    {bound['t_roofline_ms']:.2f} ms on {bound['device']} ({bound['source']}): "
            f"{100 * bound['share']:.0f} % of it reached"
        )
    if devices := figures.get("roofline_fps"):
        print("roofline of other devices, images/s in fp16 / int8 (computed, not measured):")
        print("  " + ", ".join(f"{name} {rates['fp16']:.0f} / {rates['int8']:.0f}" for name, rates in devices.items()))


def _print_layers(rows: list[dict[str, Any]], count: int) -> None:
    total = sum(row["ms"] for row in rows)
    print(f"slowest of {len(rows)} layers ({total:.1f} ms together, measured with the profiler on):")
    print(f"  {'ms':>8} {'%':>5} {'GFLOP/s':>9} {'GB/s':>7} {'roofline':>8}  layer")
    for row in rows[:count]:
        print(
            f"  {row['ms']:8.3f} {100 * row['ms'] / total:5.1f} {row['gflops']:9.1f} {row['gbytes_per_s']:7.2f} "
            f"{100 * row['roofline_share']:7.0f}%  {row['kind']} {row['name'][-60:]}"
        )
