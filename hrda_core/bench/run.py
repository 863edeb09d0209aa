"""Measures how fast a bundle runs here against what the machine could do, for `hrda bench`.

One frame is a call of the back end: camera bytes of the graph's size in, class ids and confidence out, copies to and
from a GPU included. Each frame waits for its result. The parts are timing (`timing.py`), the op list and its bound
(`graph_ops.py`, `roofline.py`), layers (`layers.py`) and the machine (`hrda_core/machine.py`). Without the package onnx
there are times alone.

A back end may offer more than the interface asks for, which is then used:

    device_seconds        after a call: seconds on the GPU without copies
    device_memory_bytes   memory held on the GPU
    run_seconds(runs)     seconds of a frame without copies, mean of `runs` frames
    layer_seconds(runs)   seconds of each layer by name, mean of `runs` frames
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.bench.request import BenchRequest, image_for, requested_graph
from hrda_core.bench.timing import Candidate, Samples, interleave
from hrda_core.inference.backends import Backend, open_backend
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.inference.made_image import golden_image
from hrda_core.inference.say import Say, silent
from hrda_core.inference.tensorrt.progress import Progress
from hrda_core.inference.thread_choice import pick_threads, thread_counts
from hrda_core.machine import peak_memory_bytes, reset_peak_memory, usable_cores
from hrda_core.window_plan import PlanChoice

__all__ = ["ThreadTimes", "run_bench", "sweep_threads"]

Counter = Callable[[int, int], None]
UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ThreadTimes:
    """Frame times of one graph on the CPU by number of threads, and the number that `pick_threads` chose."""

    samples: dict[int, Samples]
    best: int

    @property
    def p50_ms(self) -> dict[int, float]:
        """Median frame time in milliseconds by number of threads."""
        return {threads: 1e3 * samples.p50 for threads, samples in self.samples.items()}


@dataclass(frozen=True)
class _Subject:
    """What is timed."""

    bundle: Bundle
    graph: GraphSpec
    image: UInt8Array
    backend: Backend


def run_bench(
    bundle: Bundle,
    request: BenchRequest,
    *,
    say: Say = silent,
    count: Counter = lambda done, total: None,
    building: Progress | None = None,
) -> dict[str, Any]:
    """Open, warm up, time, and compare with what is possible.

    Args:
        say: takes lines for the user.
        count: called with the number of frames timed and of all.
        building: called with the progress of a TensorRT engine's build.

    Returns:
        plain values: `settings` and `figures` of a record (docs/robot/benchmarking.md).

    Raises:
        BackendError: there is no such plan or graph, or the back end cannot run here.
        BundleError, DataError, MissingPackageError, RecipeError: see the parts.
    """
    if not _has_onnx():
        say("times alone, without cost, roofline and layers: the Python package 'onnx' is not installed")
    graph = requested_graph(bundle, request)
    image = image_for(bundle, graph, request.size)
    memory: dict[str, Any] = {"before_bytes": peak_memory_bytes(), "since_start": not reset_peak_memory()}
    backend = _open(bundle, graph, request, say, building)
    say(f"{bundle.name}, plan {graph.plan}, {image.shape[1]}x{image.shape[2]} after padding: {backend.info}")
    try:
        subject = _Subject(bundle, graph, image, backend)
        frame = partial(_call, backend, image)
        for _ in range(request.warm_up):
            frame()
        memory |= {"peak_bytes": peak_memory_bytes(), "device_bytes": getattr(backend, "device_memory_bytes", None)}
        figures = _figures(subject, frame, request, say, count)
    finally:
        backend.close()
    return {"settings": _settings(subject, request), "figures": {**figures, "memory": memory}}


def _figures(
    subject: _Subject, frame: Callable[[], float | None], request: BenchRequest, say: Say, count: Counter
) -> dict[str, Any]:
    candidates = {"bundle": Candidate(frame, request.frames, warm_up=0)}
    baseline = _baseline(subject, request)
    if baseline is not None:
        picture = golden_image(*request.size)
        candidates["baseline"] = Candidate(partial(_call, baseline, picture), request.baseline_frames, warm_up=1)
    samples = interleave(candidates, count)
    measured = samples["bundle"].p50
    figures = {"latency": samples["bundle"].to_dict(), **_without_copies(subject.backend, request.frames)}
    figures |= _cost(subject, request, measured, say)
    figures |= _agreement(subject)
    if baseline is not None:
        figures["baseline"] = {
            "plan": request.baseline,
            "backend": str(baseline.info),
            "latency": (latency := samples["baseline"].to_dict()),
            "gflop": _torch_gflop(subject.bundle, request.baseline, request.size),
            "ratio_of_medians": round(samples["baseline"].p50 / measured, 3),
            "ratio_of_cpu_times": round(latency["cpu_ms"] / figures["latency"]["cpu_ms"], 3),
        }
    return figures


def sweep_threads(bundle: Bundle, request: BenchRequest, *, count: Counter = lambda done, total: None) -> ThreadTimes:
    """Time ONNX Runtime, or OpenVINO, on the CPU with 1, 2, 4 and so on threads, up to all usable cores, in turn.

    Args:
        request: its back end is `onnx` or `openvino`.

    Raises:
        BackendError, BundleError, MissingPackageError: see `open_backend`.
    """
    graph = requested_graph(bundle, request)
    image = image_for(bundle, graph, request.size)
    backends = {
        threads: open_backend(request.backend, bundle, graph, threads=threads)
        for threads in thread_counts(usable_cores())
    }
    try:
        candidates = {
            str(threads): Candidate(partial(_call, backend, image), request.frames, request.warm_up)
            for threads, backend in backends.items()
        }
        samples = {int(name): found for name, found in interleave(candidates, count).items()}
    finally:
        for backend in backends.values():
            backend.close()
    return ThreadTimes(samples, pick_threads({threads: found.p50 for threads, found in samples.items()}))


def _open(bundle: Bundle, graph: GraphSpec, request: BenchRequest, say: Say, building: Progress | None) -> Backend:
    if request.backend == "torch":
        from hrda_core.deploy.torch_backend import TorchBackend

        return TorchBackend(bundle, graph, threads=request.threads, precision=request.precision)
    return open_backend(
        request.backend,
        bundle,
        graph,
        threads=request.threads,
        build_engine=request.backend == "tensorrt",
        openvino=request.openvino,
        say=say,
        progress=building,
    )


def _call(backend: Backend, image: UInt8Array) -> float | None:
    backend(image)
    return getattr(backend, "device_seconds", None)


def _without_copies(backend: Backend, frames: int) -> dict[str, Any]:
    """The time without copies to and from a GPU, where the back end tells it."""
    run_seconds = getattr(backend, "run_seconds", None)
    return {} if run_seconds is None else {"without_copies_ms": round(1e3 * run_seconds(frames), 3)}


def _cost(subject: _Subject, request: BenchRequest, measured: float, say: Say) -> dict[str, Any]:
    graph, bundle = subject.graph, subject.bundle
    if not graph.file:
        gflop = _torch_gflop(bundle, graph.plan, request.size)
        return {"gflop": gflop, "achieved_gflops": round(gflop / measured, 2)}
    if not _has_onnx():
        return {}
    from hrda_core.bench.bound import cost_and_bound

    return cost_and_bound(bundle.file(graph.file), subject.backend, subject.image, request, measured, say)


def _has_onnx() -> bool:
    return importlib.util.find_spec("onnx") is not None


def _agreement(subject: _Subject) -> dict[str, Any]:
    """How far the masks are those of ONNX Runtime on the CPU, for other back ends."""
    graph, info = subject.graph, subject.backend.info
    if not graph.file or (info.kind, info.device) == ("onnxruntime", "cpu"):
        return {}
    reference = open_backend("onnx", subject.bundle, graph)
    try:
        labels, confidence = reference(subject.image)
    finally:
        reference.close()
    found_labels, found_confidence = subject.backend(subject.image)
    off = np.abs(confidence.astype(np.int16) - found_confidence.astype(np.int16))
    return {
        "agreement_with_onnxruntime": {
            "labels": round(float((labels == found_labels).mean()), 6),
            "confidence_mean_difference": round(float(off.mean()), 3),
        }
    }


def _baseline(subject: _Subject, request: BenchRequest) -> Backend | None:
    """The bundle's network in eager PyTorch with as many threads."""
    if not request.baseline:
        return None
    from hrda_core.deploy.torch_backend import TorchBackend

    graph = GraphSpec(PlanChoice(request.baseline), "")
    return TorchBackend(subject.bundle, graph, threads=subject.backend.info.threads, device="cpu")


def _torch_gflop(bundle: Bundle, plan: str, size: tuple[int, int]) -> float:
    """Cost of a plan as `predict_logits` runs it, GFLOP."""
    from hrda_core.deploy.network import load_network
    from hrda_core.windows.flops import plan_flops

    return round(plan_flops(load_network(bundle), plan, *size).giga, 4)


def _settings(subject: _Subject, request: BenchRequest) -> dict[str, Any]:
    return {
        "bundle": subject.bundle.name,
        "preset": subject.bundle.preset,
        "plan": subject.graph.plan,
        "graph": subject.graph.file,
        "grid": list(subject.graph.choice.grid or (1, 1)),
        "precision": request.precision,
        "size": list(request.size),
        "padded": list(subject.image.shape[1:3]),
        "backend": str(subject.backend.info),
        "threads": subject.backend.info.threads or None,
        "frames": request.frames,
        "warm_up": request.warm_up,
    }
