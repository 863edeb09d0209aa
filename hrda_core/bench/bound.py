"""Computes the cost of a graph, the least time that the machine could take for it, and where the time goes.

Needs onnx.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.bench.graph_ops import GraphOp, graph_ops
from hrda_core.bench.layers import Layer, join_layers, onnxruntime_layers
from hrda_core.bench.request import BenchRequest
from hrda_core.bench.roofline import DEVICES, Device, find_device, measure_cpu, roofline
from hrda_core.inference.backends import Backend
from hrda_core.machine import cpu_model
from hrda_core.nvidia_driver import Driver, probe_driver

__all__ = ["cost_and_bound"]

_LAYER_RUNS = 10

UInt8Array = npt.NDArray[np.uint8]


def cost_and_bound(
    path: Path,
    backend: Backend,
    image: UInt8Array,
    request: BenchRequest,
    measured: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Return the cost of a graph, its roofline here and on the devices of the table, and its layers.

    Args:
        path: the graph's file.
        measured: median time of a frame, seconds.
    """
    ops = graph_ops(path, (image.shape[1], image.shape[2]))
    flops = sum(op.flops for op in ops)
    figures: dict[str, Any] = {
        "gflop": round(flops / 1e9, 4),
        "gbytes": round(sum(op.bytes for op in ops) / 1e9, 4),
        "achieved_gflops": round(flops / measured / 1e9, 2),
        "roofline_fps": {
            device.name: {name: round(roofline(ops, device, name).rate, 1) for name in ("fp16", "int8")}
            for device in DEVICES
        },
    }
    device = _device(backend, request, say)
    layers = _layers(backend, path, image) if request.layers else None
    if device is not None and _runs_on_cpu(backend):
        device = device.at_best(_measure(backend))
    if device is not None:
        precision = request.precision if request.backend == "torch" else ""
        figures["roofline"] = _share(ops, device, precision, measured)
    if layers is not None:
        figures["layers"] = [row.to_dict() for row in join_layers(layers, ops, device)]
    return figures


def _is_onnxruntime_on_cpu(backend: Backend) -> bool:
    """Return whether the back end is ONNX Runtime without a GPU, whatever was tried before it."""
    return backend.info.kind == "onnxruntime" and _runs_on_cpu(backend)


def _device(backend: Backend, request: BenchRequest, say: Callable[[str], None]) -> Device | None:
    if _runs_on_cpu(backend):
        say("measuring what the CPU can do")
        return _measure(backend)
    driver = probe_driver()
    gpu = find_device(f"{driver.gpu.name} {cpu_model()}") if isinstance(driver, Driver) else None
    if request.given_peaks is None and gpu is None:
        say("the table of devices lacks this GPU: give --peak_tflops and --bandwidth_gbs for its roofline")
    return request.given_peaks or gpu


def _measure(backend: Backend) -> Device:
    return measure_cpu(backend.info.threads)


def _share(ops: tuple[GraphOp, ...], device: Device, precision: str, measured: float) -> dict[str, Any]:
    bound = roofline(ops, device, precision)
    return {
        "device": device.name,
        "source": device.source,
        "peak_gflops": {name: round(value / 1e9, 1) for name, value in device.peak.items()},
        "bandwidth_gbytes_per_s": round(device.bandwidth / 1e9, 2),
        "t_roofline_ms": round(1e3 * bound.seconds, 3),
        "share": round(bound.seconds / measured, 4),
        "compute_share": round(bound.compute_share, 3),
    }


def _layers(backend: Backend, path: Path, image: UInt8Array) -> list[Layer] | None:
    """None where the back end tells nothing of layers."""
    backend = getattr(backend, "running", backend)  # of one that would hand over
    if (layer_seconds := getattr(backend, "layer_seconds", None)) is not None:
        return [Layer(name, "layer", seconds) for name, seconds in layer_seconds(_LAYER_RUNS).items()]
    if _is_onnxruntime_on_cpu(backend):
        return onnxruntime_layers(path, image, backend.info.threads)
    return None


def _runs_on_cpu(backend: Backend) -> bool:
    return backend.info.device == "cpu"
