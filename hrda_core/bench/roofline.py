"""The shortest time that a device needs for an op list, and the peaks of the CPU at hand.

    t_roofline = sum over ops of max(FLOPs / peak(precision), bytes / bandwidth)

The op list comes from `graph_ops.py`, which says what is assumed to be fused. Engines that keep small tensors in a
cache between ops, or fuse further, can beat the bytes term on small images. Needs neither torch nor onnx.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from hrda_core.errors import BackendError, require

__all__ = [
    "DEVICES",
    "Device",
    "Op",
    "Roofline",
    "find_device",
    "large_product",
    "measure_cpu",
    "op_seconds",
    "roofline",
]

_WIDTHS = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0, "fp8": 1.0}


class Op(Protocol):
    """The properties of an op that a roofline needs; `graph_ops.GraphOp` is one."""

    @property
    def flops(self) -> int:
        """Floating point operations."""
        ...

    @property
    def precision(self) -> str:
        """Number format of its values, as the graph is written."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes moved, as the graph is written."""
        ...

    def bytes_at(self, width: float) -> float:
        """Return the bytes that would be moved if every floating point value took `width` bytes."""
        ...


@dataclass(frozen=True)
class Device:
    """The peaks of a device.

    Attributes:
        name: name for tables.
        peak: operations per second by number format, dense (no structured sparsity), a multiply-add as 2.
        bandwidth: bytes per second to and from memory.
        source: where the figures come from.
    """

    name: str
    peak: Mapping[str, float]
    bandwidth: float
    source: str

    def rate(self, precision: str) -> float:
        """Return the operations per second in a number format, or those of fp16, else of fp32, if it is not listed.

        That makes the bound of an fp32 op on a GPU loose: tensor cores run it at half of that (TF32) at best.
        """
        return next(self.peak[name] for name in (precision, "fp16", "fp32") if name in self.peak)

    def at_best(self, again: Device) -> Device:
        """Return this device with the better of two measurements, as other programs slow down each of them."""
        peak = {name: max(value, again.peak.get(name, 0.0)) for name, value in self.peak.items()}
        return replace(self, peak=peak, bandwidth=max(self.bandwidth, again.bandwidth))


DEVICES: tuple[Device, ...] = (
    Device(
        "H200",
        {"fp16": 790e12, "bf16": 790e12, "int8": 1580e12, "fp8": 1580e12},
        4.3e12,
        "bf16 and bandwidth measured on an H200 (large GEMM, large copy); 8 bits taken as twice bf16",
    ),
    Device(
        "H100 SXM",
        {"fp16": 989.4e12, "bf16": 989.4e12, "int8": 1978.9e12, "fp8": 1978.9e12},
        3.35e12,
        "NVIDIA H100 data sheet, dense; the H200, with the same peak on paper, reached 80 % of it",
    ),
    Device(
        "RTX 4090",
        {"fp16": 165e12, "bf16": 165e12, "int8": 660e12, "fp8": 660e12},
        1.008e12,
        "NVIDIA Ada white paper, dense; fp16 with fp32 accumulation",
    ),
    Device(
        "AGX Orin 64GB",
        {"fp16": 42.6e12, "int8": 85.2e12},
        204.8e9,
        "NVIDIA technical brief: the GPU alone, dense (the advertised 275 TOPS are sparse int8, GPU and DLA together)",
    ),
    Device(
        "Orin Nano Super",
        {"fp16": 16.7e12, "int8": 33.4e12},
        102e9,
        "NVIDIA data sheet: the GPU alone, dense (the advertised 67 TOPS are sparse int8 of the module)",
    ),
)
"""Devices whose roofline `hrda bench` prints."""


@dataclass(frozen=True)
class Roofline:
    """The bound of an op list on a device.

    Attributes:
        device: name of the device.
        precision: number format that all values were taken in; empty = each op in that of the graph.
        seconds: t_roofline of one image.
        compute_share: share of `seconds` in ops that are bound by arithmetic, 0..1; the rest is bound by memory.
        flops, bytes: sums over the ops.
    """

    device: str
    precision: str
    seconds: float
    compute_share: float
    flops: int
    bytes: int

    @property
    def rate(self) -> float:
        """Upper bound of the images per second."""
        return 1 / self.seconds


def roofline(ops: Iterable[Op], device: Device, precision: str = "") -> Roofline:
    """Sum up the bounds of all ops.

    Args:
        ops: from `graph_ops`; at least one must do something.
        precision: take every floating point value in this format (`fp32`, `fp16`, `bf16`, `int8`, `fp8`), whatever the
            graph says: what an engine of that precision could reach. Empty = as the graph is written.

    Raises:
        BackendError: the precision is unknown.
    """
    if precision and precision not in _WIDTHS:
        raise BackendError(f"precision '{precision}' is not known; choose one of {', '.join(_WIDTHS)}")
    listed = list(ops)
    bounds = [_bounds(op, device, precision) for op in listed]
    seconds = sum(max(pair) for pair in bounds)
    arithmetic = sum(compute for compute, memory in bounds if compute >= memory)
    moved = sum(op.bytes_at(_WIDTHS[precision]) if precision else op.bytes for op in listed)
    return Roofline(device.name, precision, seconds, arithmetic / seconds, sum(op.flops for op in listed), round(moved))


def op_seconds(op: Op, device: Device, precision: str = "") -> float:
    """Return the bound of one op, in seconds."""
    return max(_bounds(op, device, precision))


def find_device(name: str) -> Device | None:
    """Find a GPU in the table of devices by its name and its board's (all Jetsons call their GPU `Orin`).

    Variants with other clocks or memory (PCIe cards, laptops, smaller modules that say so) are not in the table.
    """
    words = name.lower().split()
    if {"pcie", "nvl", "laptop", "d"} & set(words):
        return None
    for device, needed in _NAMES.items():
        if needed <= set(words):
            return next(entry for entry in DEVICES if entry.name == device)
    return None


_NAMES = {
    "H200": {"h200"},
    "H100 SXM": {"h100"},
    "RTX 4090": {"4090"},
    "AGX Orin 64GB": {"agx", "orin"},
    "Orin Nano Super": {"orin", "nano", "super"},
}


def measure_cpu(threads: int) -> Device:
    """Measure the CPU's peaks by a large matrix product and convolution in ONNX Runtime and by a large copy.

    The quickest run of each counts. This takes about three seconds and 0.6 GB. On a busy machine both figures are what
    was left, so measure when you time.

    Args:
        threads: CPU threads of both measurements.

    Raises:
        MissingPackageError: onnxruntime or onnx is not installed.
    """
    source = (
        f"measured with {threads} thread{'' if threads == 1 else 's'}: ONNX Runtime fp32 GEMM and 3x3 convolution, copy"
    )
    return Device(
        "this CPU", {"fp32": max(_product_rate(threads), _convolution_rate(threads))}, _copy_rate(threads), source
    )


def _bounds(op: Op, device: Device, precision: str) -> tuple[float, float]:
    """Seconds for the arithmetic and for the memory of one op."""
    moved = op.bytes_at(_WIDTHS[precision]) if precision else op.bytes
    return op.flops / device.rate(precision or op.precision), moved / device.bandwidth


_GEMM_SIDE = 1536
_CHANNELS, _MAP_SIDE = 256, 64
_COPY_BYTES = 256 << 20
_REPEATS = 6


def large_product(threads: int) -> tuple[Callable[[], object], int]:
    """Return a function that runs a large square product in ONNX Runtime, single precision, and its FLOPs.

    Raises:
        MissingPackageError: onnxruntime or onnx is not installed.
    """
    shape = (_GEMM_SIDE, _GEMM_SIDE)
    return _one_node("MatMul", shape, shape, shape, threads), 2 * _GEMM_SIDE**3


def _product_rate(threads: int) -> float:
    """Operations per second of a square product in single precision."""
    run, flops = large_product(threads)
    return flops / _quickest(run)


def _convolution_rate(threads: int) -> float:
    """Operations per second of a convolution as in the decoders: ONNX Runtime has kernels of its own for those."""
    image = (1, _CHANNELS, _MAP_SIDE, _MAP_SIDE)
    run = _one_node("Conv", image, (_CHANNELS, _CHANNELS, 3, 3), image, threads, pads=[1, 1, 1, 1])
    return 2 * _MAP_SIDE**2 * _CHANNELS**2 * 9 / _quickest(run)


def _one_node(
    kind: str, data: tuple[int, ...], weight: tuple[int, ...], result: tuple[int, ...], threads: int, **attributes: Any
) -> Callable[[], object]:
    """A function that runs one node with a constant second operand, fp32."""
    ort, onnx = require("onnxruntime", "runtime"), require("onnx", "train")
    helper, kinds = onnx.helper, onnx.TensorProto.FLOAT
    generator = np.random.default_rng(0)
    weights = onnx.numpy_helper.from_array(generator.random(weight, np.float32), "w")
    values = [helper.make_tensor_value_info(name, kinds, shape) for name, shape in (("x", data), ("y", result))]
    nodes = [helper.make_node(kind, ["x", "w"], ["y"], **attributes)]
    graph = helper.make_graph(nodes, "probe", values[:1], values[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"x": generator.random(data, np.float32)}
    return lambda: session.run(None, feeds)


def _copy_rate(threads: int) -> float:
    """Bytes per second read plus written, each thread copying its part."""
    source, target = (np.ones(_COPY_BYTES // 8) for _ in range(2))
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        return 2 * source.nbytes / _quickest(lambda: list(pool.map(lambda pair: np.copyto(*pair), parts)))


def _quickest(run: Callable[[], object]) -> float:
    run()
    seconds = []
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
