"""Type and shape of every tensor of an ONNX graph at one image size, and which nodes run for each image.

One pass in the order of the nodes: what depends on constants alone (weights that are cast, the arithmetic of shapes
that graphs for any image size carry) is worked out and takes no part in a run; the rest gets its output types from
ONNX's own shape inference, which then meets no unknown. Nothing of the network is computed. Needs onnx.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hrda_core.errors import DataError

__all__ = ["StaticGraph", "TensorInfo", "load_static_graph", "node_name"]

_SMALL = 4096
"""Constants with more values than this are weights: only their type is followed. Shape arithmetic is far below."""


@dataclass(frozen=True)
class TensorInfo:
    """Type and shape of one tensor.

    Attributes:
        dtype: ONNX element type, for example `FLOAT`, `FLOAT16`, `UINT8`.
        shape: every side, known.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def values(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)

    @property
    def width(self) -> float:
        """Bytes of one value (half a byte for 4-bit types)."""
        return _WIDTHS[self.dtype]

    @property
    def is_float(self) -> bool:
        """A floating point format, of any width."""
        return "FLOAT" in self.dtype or self.dtype == "DOUBLE"


@dataclass(frozen=True)
class StaticGraph:
    """An ONNX graph at one image size.

    Attributes:
        nodes: nodes that run for each image, in order.
        tensors: info of every tensor, constants included.
        constants: tensors that do not depend on the input.
        makers: of each constant that a node makes, that node.
        outputs: tensors that the graph gives out.
    """

    nodes: tuple[NodeProto, ...]
    tensors: Mapping[str, TensorInfo]
    constants: frozenset[str]
    makers: Mapping[str, NodeProto]
    outputs: tuple[str, ...]


def load_static_graph(path: Path, size: tuple[int, int] | None = None) -> StaticGraph:
    """Read a graph and follow all shapes.

    Args:
        path: ONNX file; its first input is the image, (1, H, W, 3).
        size: height and width of the image, pixels; None = those that the file states.

    Raises:
        DataError: the file is no ONNX graph, has no fixed size where none is given or another than the one given, or
            holds an operation whose result sizes depend on the image.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises classes of its own
        raise DataError(f"'{path}' is not readable as an ONNX graph ({_first_line(error)}); export it again") from error
    if not model.graph.node or not model.graph.input:
        raise DataError(f"'{path}' holds no ONNX graph with an input and nodes; export it again")
    return _Shapes(model, path).follow(size)


def node_name(node: NodeProto) -> str:
    """The name of a node, or of its first output where it has none."""
    return str(node.name or node.output[0])


class _Shapes:
    def __init__(self, model: onnx.ModelProto, path: Path) -> None:
        self._graph, self._path, self._imports = model.graph, path, list(model.opset_import)
        self._versions = {entry.domain: entry.version for entry in model.opset_import}
        self._types: dict[str, TypeProto] = {}
        self._values: dict[str, TensorProto] = {}
        self._constants: set[str] = set()
        self._makers: dict[str, NodeProto] = {}

    def follow(self, size: tuple[int, int] | None) -> StaticGraph:
        self._take_weights()
        for number, entry in enumerate(self._input_entries()):
            self._types[entry.name] = self._input_type(entry, size if number == 0 else None)
        running = [node for node in self._graph.node if not self._is_constant(node)]
        tensors = {name: info for name, entry in self._types.items() if (info := _info(entry)) is not None}
        for node in running:
            missing = [name for name in node.output if name and name not in tensors]
            if missing:
                raise self._unknown(node, "the size of its result is not fixed")
        outputs = tuple(entry.name for entry in self._graph.output)
        return StaticGraph(tuple(running), tensors, frozenset(self._constants), self._makers, outputs)

    def _take_weights(self) -> None:
        for tensor in self._graph.initializer:
            self._types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            self._constants.add(tensor.name)
            if math.prod(tensor.dims) <= _SMALL and tensor.data_location != TensorProto.EXTERNAL:
                self._values[tensor.name] = tensor

    def _input_entries(self) -> list[onnx.ValueInfoProto]:
        """Inputs that are not weights (files of old versions list those too)."""
        return [entry for entry in self._graph.input if entry.name not in self._constants]

    def _input_type(self, entry: onnx.ValueInfoProto, size: tuple[int, int] | None) -> TypeProto:
        """The type of an input, its open sides filled from `size`."""
        tensor = entry.type.tensor_type
        sides: list[int] = [side.dim_value for side in tensor.shape.dim]
        if size is not None and len(sides) == 4:
            wanted = [sides[0] or 1, *size, sides[3]]
            if any(side not in (0, want) for side, want in zip(sides, wanted, strict=True)):
                raise DataError(
                    f"graph '{self._path}' is made for images of {sides[1]} x {sides[2]} pixels (height x width), "
                    f"asked for is {size[0]} x {size[1]}; give its size, or export another graph"
                )
            sides = wanted
        if 0 in sides:
            raise DataError(
                f"graph '{self._path}' takes images of any size; its cost depends on the size, so give one (HxW)"
            )
        return helper.make_tensor_type_proto(tensor.elem_type, sides)

    def _is_constant(self, node: NodeProto) -> bool:
        """Work out the types of a node's results, and their values where they are small constants."""
        given = [name for name in node.input if name]
        self._infer(node)
        constant = node.op_type == "Shape" or all(name in self._constants for name in given)
        if constant:
            self._constants.update(node.output)
            self._makers.update(dict.fromkeys(node.output, node))
            self._fold(node, given)
        return constant

    def _infer(self, node: NodeProto) -> None:
        if any(entry.type == AttributeProto.GRAPH for entry in node.attribute):
            raise self._unknown(node, "what it does depends on values")
        try:
            schema = onnx.defs.get_schema(node.op_type, self._versions.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError:
            raise self._unknown(node, f"it is not an operation of ONNX but of domain '{node.domain}'") from None
        names = [name for name in node.input if name]
        try:
            types = {name: self._types[name] for name in names}
            data = {name: self._values[name] for name in names if name in self._values}
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=self._imports, ir_version=10
            )
        except (KeyError, onnx.shape_inference.InferenceError) as error:
            raise self._unknown(node, _first_line(error)) from None
        self._types.update(found)

    def _fold(self, node: NodeProto, given: list[str]) -> None:
        """Values of a constant node, unless they are weights."""
        if node.op_type == "Shape":
            shape = _info(self._types[given[0]])
            if shape is None:
                raise self._unknown(node, "the size of its input is not fixed")
            start, end = (_attribute(node, name, default) for name, default in (("start", 0), ("end", None)))
            results = [numpy_helper.from_array(np.array(shape.shape[start:end], np.int64), node.output[0])]
        elif any(name not in self._values for name in given) or self._is_large(node):
            return
        else:
            results = self._compute(node, given)
        for name, value in zip(node.output, results, strict=True):
            self._values[name] = value
            self._types[name] = helper.make_tensor_type_proto(value.data_type, list(value.dims))

    def _is_large(self, node: NodeProto) -> bool:
        infos = [_info(self._types[name]) for name in node.output if name in self._types]
        return any(info is not None and info.values > _SMALL for info in infos)

    def _compute(self, node: NodeProto, given: list[str]) -> list[TensorProto]:
        inputs = [helper.make_value_info(name, self._types[name]) for name in dict.fromkeys(given)]
        outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
        graph = helper.make_graph([node], "constant", inputs, outputs)
        model = helper.make_model(graph, opset_imports=self._imports, ir_version=10)
        feeds = {name: numpy_helper.to_array(self._values[name]) for name in given}
        results = list(ReferenceEvaluator(model).run(None, feeds))
        return [numpy_helper.from_array(value, name) for name, value in zip(node.output, results, strict=True)]

    def _unknown(self, node: NodeProto, reason: str) -> DataError:
        return DataError(
            f"the cost of '{self._path}' cannot be counted: node '{node_name(node)}' ({node.op_type}): {reason}; "
            f"give a graph of standard operations with fixed sizes, as 'hrda export' writes it"
        )


def _info(entry: TypeProto) -> TensorInfo | None:
    """None where a side is not known, or it is no tensor."""
    tensor = entry.tensor_type
    if not entry.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    sides = tensor.shape.dim
    if not all(side.HasField("dim_value") for side in sides):
        return None
    return TensorInfo(TensorProto.DataType.Name(tensor.elem_type), tuple(side.dim_value for side in sides))


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


_WIDTHS = {
    **dict.fromkeys(("INT4", "UINT4", "FLOAT4E2M1"), 0.5),
    **dict.fromkeys(("BOOL", "INT8", "UINT8", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 1.0),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 2.0),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 4.0),
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64"), 8.0),
}
