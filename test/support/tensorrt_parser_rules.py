"""What the ONNX parser of TensorRT 10.3 (JetPack 6) documents and a newer compiler no longer enforces.

Source: the operator tables of the public onnx-tensorrt project, 8.5 to 10.6. A graph that keeps to these rules is not
proved to run there; one that breaks them is proved to be a risk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, numpy_helper

__all__ = ["NEWEST_OPSET", "broken_rules"]

NEWEST_OPSET = 20
"""Of TensorRT 10.0 to 10.5; 8.6 reads up to 17, 10.6 up to 22."""

# fmt: off
OPERATIONS = frozenset({
    "Add", "ArgMax", "Cast", "Clip", "Concat", "Constant", "Conv", "DequantizeLinear", "Div", "Equal", "Exp",
    "Expand", "Flatten", "Gather", "Gelu", "LayerNormalization", "MatMul", "Max", "Min", "Mul", "Pad",
    "QuantizeLinear", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize",
    "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "TopK", "Transpose", "Unsqueeze",
    "Where",
})
# fmt: on
"""Operations of our graphs that its table lists as supported. Look a new one up there before it is added here."""

CONSTANT_INPUTS = {"ReduceMax": 1, "ReduceMean": 1, "ReduceSum": 1, "Squeeze": 1, "TopK": 1, "Unsqueeze": 1}
"""Operations whose input of this number (axes, k) must be known when the graph is parsed."""


def broken_rules(model: onnx.ModelProto) -> list[str]:
    """One line for each rule that a graph breaks; the graph has its shapes and types inferred."""
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    graph = _Graph(model)
    lines = [] if opsets.get("ai.onnx", 0) <= NEWEST_OPSET else [f"opset {opsets['ai.onnx']} is above {NEWEST_OPSET}"]
    return lines + [
        f"{node.op_type} '{node.name or node.output[0]}': {problem}"
        for node in model.graph.node
        for problem in _problems(node, graph)
    ]


class _Graph:
    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.constants = {tensor.name: tensor for tensor in graph.initializer} | {
            node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"
        }
        self.inputs = {entry.name for entry in graph.input}
        self.outputs = {entry.name for entry in graph.output}
        self.types = {name: tensor.data_type for name, tensor in self.constants.items()} | {
            entry.name: entry.type.tensor_type.elem_type for entry in [*graph.input, *graph.output, *graph.value_info]
        }


def _problems(node: NodeProto, graph: _Graph) -> Iterator[str]:
    if node.domain or node.op_type not in OPERATIONS:
        yield f"operation '{node.domain}.{node.op_type}' is not among those looked up"
    yield from _bytes_inside(node, graph)
    position = CONSTANT_INPUTS.get(node.op_type)
    if position is not None and len(node.input) > position and node.input[position] not in graph.constants:
        yield f"input {position} is computed"
    check = CHECKS.get(node.op_type)
    if check is not None:
        yield from check(node, graph)


def _bytes_inside(node: NodeProto, graph: _Graph) -> Iterator[str]:
    """8-bit unsigned tensors are inputs and outputs of the graph only, and only a Cast touches them."""
    for name in [*node.input, *node.output]:
        if graph.types.get(name) != TensorProto.UINT8:
            continue
        if node.op_type != "Cast":
            yield f"works on the uint8 tensor '{name}'"
        elif name not in graph.inputs | graph.outputs:
            yield f"'{name}' is uint8 inside the graph"


def _cast(node: NodeProto, graph: _Graph) -> Iterator[str]:
    if graph.types.get(node.output[0]) == TensorProto.UINT8:
        source = graph.types.get(node.input[0])
        if source not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            yield f"to uint8 from {TensorProto.DataType.Name(source or 0)}; only from float"


def _layer_normalization(node: NodeProto, graph: _Graph) -> Iterator[str]:
    if len([name for name in node.output if name]) > 1:
        yield "has more outputs than the first"


def _resize(node: NodeProto, graph: _Graph) -> Iterator[str]:
    values = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    if values.get("mode", b"nearest") not in (b"nearest", b"linear"):
        yield f"mode {values['mode']!r}"
    if values.get("antialias", 0):
        yield "antialias"
    if not any(name in graph.constants for name in node.input[2:]):
        yield "size and scales are computed"


def _quantised(node: NodeProto, graph: _Graph) -> Iterator[str]:
    zero = graph.constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None or zero.data_type != TensorProto.INT8 or np.any(numpy_helper.to_array(zero)):
        yield "is not symmetric int8: its zero point must be a constant int8 of 0"


Check = Callable[[NodeProto, _Graph], Iterator[str]]

CHECKS: dict[str, Check] = {
    "Cast": _cast,
    "DequantizeLinear": _quantised,
    "LayerNormalization": _layer_normalization,
    "QuantizeLinear": _quantised,
    "Resize": _resize,
}
