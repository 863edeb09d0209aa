"""Lists what an ONNX graph has to do for one image: its operations after ideal fusion, with FLOPs and bytes moved.

This op list is behind every roofline (`roofline.py`). FLOPs count Conv, ConvTranspose, MatMul, Gemm and Attention, a
multiply-add as 2, as torch's counter does; all else counts 0. An ideal engine is assumed to work as follows:

- Each op reads each of its inputs and weights once, and writes its result once, all in their number format. Of a tensor
  that is sliced or gathered from, it reads the part. Nothing stays in a cache from one op to the next.
- Epilogues are fused: an elementwise op that alone reads a result of the same size adds no traffic but its other
  operands, and its own result is written instead. Elementwise ops that alone feed a norm or a reduction are part of it.
- Attention is one op: MatMul, elementwise ops, Softmax over the last axis, elementwise ops and MatMul write nothing in
  between.
- Layouts are ideal: reshapes, transposes, slices, splits, broadcasts and concatenations cost nothing (the parts are
  written in their places). A cast that is no epilogue happens while its reader reads.
- A tensor that is resized for elementwise ops or reductions alone is never written: they read the small one. For a
  convolution, a product or a concatenation the resizing is an op that reads the small tensor and writes the large one.
- Weights are in the format that the op takes, as after loading. `DequantizeLinear` is part of reading, so ops between
  quantised tensors move 8-bit values and count as `int8`.
- Norms, softmax on its own, pooling, padding and reductions are an op each, which reads once and writes once.

Needs onnx.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onnx import NodeProto

from hrda_core.bench.graph_flops import MATH_OPS, node_flops, refuse_uncounted
from hrda_core.bench.graph_fusion import fused_groups
from hrda_core.bench.graph_readers import ELEMENTWISE, VIEWS, Readers
from hrda_core.bench.graph_shapes import StaticGraph, TensorInfo, load_static_graph
from hrda_core.deploy.onnx_graph import node_name

__all__ = ["GraphOp", "graph_ops"]

_PARTIAL_READERS = frozenset(("Gather", "GatherElements", "GatherND"))
_FORMATS = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "INT8": "int8", "UINT8": "int8"}

_Traffic = list[tuple[TensorInfo, int]]
"""Tensors that are read or written, and how many of their values."""


@dataclass(frozen=True)
class GraphOp:
    """One op after fusion.

    Attributes:
        name: name of its main node.
        kind: operation of the main node, `Attention` for a fused one, `Elementwise` for elementwise nodes on their own.
        flops: floating point operations, a multiply-add as 2.
        precision: format of the values it works on: fp32, fp16, bf16, int8, or the ONNX type in small letters.
        float_values: number of values, read (weights included) or written, in a floating point format.
        float_bytes: bytes of those values, as the graph is written.
        other_bytes: bytes of integers and booleans.
        nodes: names of all its nodes.
        results: names of the tensors that they make; runtimes name layers by either.
    """

    name: str
    kind: str
    flops: int
    precision: str
    float_values: int
    float_bytes: int
    other_bytes: int
    nodes: tuple[str, ...]
    results: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Bytes moved to and from memory, as the graph is written."""
        return self.float_bytes + self.other_bytes

    def bytes_at(self, width: float) -> float:
        """Return the bytes that would be moved if every floating point value took `width` bytes."""
        return self.float_values * width + self.other_bytes


def graph_ops(path: Path, size: tuple[int, int] | None = None) -> tuple[GraphOp, ...]:
    """Return the op list of an ONNX file.

    Args:
        path: ONNX file with standard operations only.
        size: height and width of the image, pixels, for graphs that take any; None = the size stated in the file.

    Raises:
        DataError: the file cannot be read, its shapes are not fixed, or it holds an operation that cannot be counted.
    """
    graph = load_static_graph(path, size)
    for node in graph.nodes:
        refuse_uncounted(node)
    readers = Readers(graph)
    groups = fused_groups(graph, readers)
    return tuple(_Sums(graph, readers).of(members) for members in groups)


class _Sums:
    """Adds up a group of nodes."""

    def __init__(self, graph: StaticGraph, readers: Readers) -> None:
        self._graph, self._tensors, self._readers = graph, graph.tensors, readers

    def of(self, members: list[int]) -> GraphOp:
        nodes = [self._graph.nodes[number] for number in members]
        traffic = [*self._read(members), *self._weights(nodes), *self._written(members)]
        main = max(nodes, key=lambda node: (node.op_type in MATH_OPS, node.op_type not in ELEMENTWISE))
        return GraphOp(
            name=node_name(main),
            kind=_kind(nodes, main),
            flops=sum(node_flops(node, self._tensors) for node in nodes),
            precision=self._precision(main),
            float_values=sum(values for info, values in traffic if info.is_float),
            float_bytes=_bytes((info, values) for info, values in traffic if info.is_float),
            other_bytes=_bytes((info, values) for info, values in traffic if not info.is_float),
            nodes=tuple(node_name(node) for node in nodes),
            results=tuple(name for node in nodes for name in node.output if name),
        )

    def _read(self, members: list[int]) -> _Traffic:
        """Tensors that come from outside the group, each once."""
        parts: dict[str, dict[str, int]] = defaultdict(dict)
        for number in members:
            node = self._graph.nodes[number]
            for name in self._readers.data(node):
                root = self._readers.root(name)
                if self._readers.maker.get(root) not in members:
                    parts[root][name] = self._values_read(node, name)
        # Several views of one tensor: their parts, but not more than there is.
        return [
            (self._tensors[root], min(sum(views.values()), self._tensors[root].values)) for root, views in parts.items()
        ]

    def _values_read(self, node: NodeProto, name: str) -> int:
        values = self._tensors[name].values
        if node.op_type in _PARTIAL_READERS and name == node.input[0]:
            return min(values, self._tensors[node.output[0]].values)
        return values

    def _weights(self, nodes: Iterable[NodeProto]) -> _Traffic:
        names = {name for node in nodes for name in node.input if name in self._graph.constants}
        infos = [self._tensors[self._stored(name)] for name in sorted(names)]
        return [(info, info.values) for info in infos]

    def _written(self, members: list[int]) -> _Traffic:
        names = [name for number in members for name in self._graph.nodes[number].output if name]
        leaving = [self._tensors[name] for name in names if self._readers.leaves(name, members)]
        return [(info, info.values) for info in leaving]

    def _stored(self, constant: str) -> str:
        """The tensor behind a view of a weight; for a quantised one that of 8 bits."""
        while (node := self._graph.makers.get(constant)) is not None and node.op_type in VIEWS:
            constant = node.input[0]
        return constant

    def _precision(self, main: NodeProto) -> str:
        first = main.input[0] if main.input else main.output[0]
        source = self._stored(first) if first in self._graph.constants else self._readers.root(first)
        dtype = self._tensors[source].dtype
        if main.op_type not in MATH_OPS and not self._tensors[source].is_float:
            dtype = self._tensors[main.output[0]].dtype  # of a cast or a normalisation of bytes
        return _FORMATS.get(dtype, dtype.lower())


def _bytes(traffic: Iterable[tuple[TensorInfo, int]]) -> int:
    return round(sum(values * info.width for info, values in traffic))


def _kind(nodes: Sequence[NodeProto], main: NodeProto) -> str:
    kinds = Counter(node.op_type for node in nodes)
    if kinds["MatMul"] == 2 and kinds["Softmax"]:
        return "Attention"
    return "Elementwise" if main.op_type in ELEMENTWISE else str(main.op_type)
