"""Ranges that the tensors of a graph take on images: what 8-bit integers will stand for. Needs onnx and onnxruntime.

ONNX Runtime's own calibrators are not used. Those for `entropy` and `percentile` hold every activation of every image
at once, and as its quantiser calls it, `entropy` begins with as many bins as there are levels, so it finds nothing to
cut. Here the graph itself thins each tensor to a sample before it leaves the session, and only a histogram stays.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from hrda_core.errors import BackendError, DataError, RecipeError, require

__all__ = ["METHODS", "Progress", "Ranges", "activation_ranges"]

METHODS = ("percentile", "minmax", "entropy")
"""How a range is found. `percentile`: 99.99 % of the values lie within. `minmax`: all do. `entropy`: the range whose
128 levels keep the distribution best (Kullback-Leibler divergence, as TensorRT's calibrator had it)."""

Ranges = Mapping[str, tuple[float, float]]
"""Tensor to its lowest and highest value; 0 lies within."""

Progress = Callable[[int, int], None]
"""Called with how much is done and how much there is (0 = not known)."""

_PERCENTILE = 99.99
_BINS = 4096
_LEVELS = 128
_SAMPLE = 1 << 16  # values of a tensor that are looked at in each image
_SMALLEST = 1e-6  # a tensor that is 0 everywhere still needs a scale


def activation_ranges(
    model: onnx.ModelProto,
    tensors: Collection[str],
    images: Iterable[npt.NDArray[np.uint8]],
    *,
    method: str = "percentile",
    progress: Progress | None = None,
) -> Ranges:
    """Run a graph on images and find the ranges of some of its tensors.

    Memory does not grow with the number of images: each is asked for when it is needed, and of each tensor 65536 values
    and the extremes are taken.

    Args:
        model: static graph with shapes inferred; its input `image` is uint8 (1, H, W, 3).
        tensors: names of float tensors that nodes of the graph make.
        images: uint8 (1, H, W, 3) RGB of the graph's size, from the domain that the model will see.
        method: one of `METHODS`.
        progress: is told after each image.

    Raises:
        RecipeError: unknown method.
        DataError: no image.
        BackendError: the shape of a tensor is not known, or an image does not fit the graph.
        MissingPackageError: onnxruntime is not installed.
    """
    if method not in METHODS:
        raise RecipeError(f"calibration method '{method}' is not known; choose one of {', '.join(METHODS)}")
    names = list(dict.fromkeys(tensors))
    session = _watching_session(model, names)
    histograms = {name: _Histogram() for name in names}
    total, done = operator.length_hint(images, 0), 0
    for done, image in enumerate(images, start=1):
        found = _run(session, image)
        for name, (sample, lowest, highest) in zip(names, zip(*[iter(found)] * 3, strict=True), strict=True):
            histograms[name].add(sample.astype(np.float32), float(lowest), float(highest))
        if progress is not None:
            progress(done, total)
    if not done:
        raise DataError("there is no image to calibrate on; give some of the footage that the model is for")
    return {name: histogram.range(method) for name, histogram in histograms.items()}


class _Histogram:
    """Absolute values of one tensor, and its extremes."""

    def __init__(self) -> None:
        self._counts, self._top = np.zeros(_BINS, np.int64), 0.0
        self._lowest = self._highest = 0.0

    def add(self, sample: npt.NDArray[np.float32], lowest: float, highest: float) -> None:
        self._lowest, self._highest = min(self._lowest, lowest), max(self._highest, highest)
        largest = max(highest, -lowest)
        if not (math.isfinite(largest) and np.isfinite(sample).all()):
            raise BackendError("the graph computes values that are not finite, so it cannot be calibrated")
        self._top = self._top or max(largest, _SMALLEST)
        while largest > self._top:
            self._counts = np.concatenate([self._counts.reshape(-1, 2).sum(1), np.zeros(_BINS // 2, np.int64)])
            self._top *= 2
        self._counts += np.histogram(np.abs(sample), _BINS, (0, self._top))[0]

    def range(self, method: str) -> tuple[float, float]:
        largest = max(self._highest, -self._lowest, _SMALLEST)
        cuts = {"minmax": lambda: largest, "percentile": self._percentile, "entropy": self._entropy}
        cut = min(largest, cuts[method]())
        return max(self._lowest, -cut), min(self._highest, cut)

    def _percentile(self) -> float:
        within = np.cumsum(self._counts)
        return self._edge(int(np.searchsorted(within, within[-1] * _PERCENTILE / 100)))

    def _entropy(self) -> float:
        counts = self._counts.astype(np.float64)
        counts[0] = counts[1]  # behind a ReLU most values are 0, which every range keeps exactly
        ends = range(_LEVELS, _BINS + 1, 16)
        return self._edge(min(ends, key=lambda end: _divergence(counts, end)) - 1)

    def _edge(self, index: int) -> float:
        """Upper end of a bin."""
        return self._top * (index + 1) / _BINS


def _divergence(counts: npt.NDArray[np.float64], end: int) -> float:
    """How much is lost if bins from `end` on are cut to its value and those below are merged into `_LEVELS`."""
    kept = counts[:end].copy()
    level = np.arange(end) * _LEVELS // end
    filled = kept > 0
    merged, shares = (np.bincount(level, values, _LEVELS) for values in (kept, filled))
    quantised = np.where(filled, (merged / np.maximum(shares, 1))[level], 0)
    kept[-1] += counts[end:].sum()
    wanted, given = (np.maximum(values, 1e-9 * counts.sum() + 1e-30) for values in (kept, quantised))
    wanted, given = wanted / wanted.sum(), given / given.sum()
    return float((wanted * np.log(wanted / given)).sum())


def _watching_session(model: onnx.ModelProto, names: list[str]) -> Any:
    """A session whose outputs are a sample, the lowest and the highest value of each tensor, in turn."""
    ort = require("onnxruntime", "runtime")
    watching = onnx.ModelProto()
    watching.CopyFrom(model)
    graph = watching.graph
    del graph.output[:]
    nodes = list(model.graph.node)
    makers = {output: number for number, node in enumerate(nodes) for output in node.output}
    known = {info.name: info.type.tensor_type for info in graph.value_info}
    watchers: dict[int, list[onnx.NodeProto]] = {}
    for number, name in enumerate(names):
        shape = [side.dim_value for side in known[name].shape.dim] if name in known else [0]
        if not all(shape):
            raise BackendError(
                f"the shape of tensor '{name}' is not known; quantise a graph of one image size with shapes inferred"
            )
        added = _watch(graph, f"hrda_watch_{number}", name, shape, known[name].elem_type)
        watchers.setdefault(makers[name], []).extend(added)
    del graph.node[:]
    graph.node.extend(node for number, made in enumerate(nodes) for node in (made, *watchers.get(number, ())))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # In the order of the file: a tensor is sampled right after it is made, and its memory is free again as always.
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
    options.log_severity_level = 3
    return ort.InferenceSession(watching.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _watch(graph: onnx.GraphProto, prefix: str, name: str, shape: list[int], kind: int) -> list[onnx.NodeProto]:
    """Nodes that thin a tensor; their constants and outputs are added to the graph."""
    step = max(1, -(-math.prod(shape) // _SAMPLE))
    while math.gcd(step, shape[-1]) > 1:  # else some columns or channels would never be looked at
        step += 1
    constants = {"flat": [-1], "begin": [0], "end": [2**31 - 1], "axis": [0], "step": [step]}
    graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), f"{prefix}_{key}") for key, value in constants.items()
    )
    sliced = [f"{prefix}_{key}" for key in ("values", "begin", "end", "axis", "step")]
    outputs = [f"{prefix}_{key}" for key in ("sample", "lowest", "highest")]
    graph.output.extend(helper.make_tensor_value_info(output, kind, None) for output in outputs)
    return [
        helper.make_node("Reshape", [name, f"{prefix}_flat"], [f"{prefix}_values"]),
        helper.make_node("Slice", sliced, outputs[:1]),
        helper.make_node("ReduceMin", [name], outputs[1:2], keepdims=0),
        helper.make_node("ReduceMax", [name], outputs[2:], keepdims=0),
    ]


def _run(session: Any, image: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
    try:
        return list(session.run(None, {"image": image}))
    except Exception as error:  # ONNX Runtime raises classes of its own that are not exported
        reason = str(error).splitlines()[0][:200]
        raise BackendError(f"ONNX Runtime failed on a calibration image of shape {image.shape}: {reason}") from error
