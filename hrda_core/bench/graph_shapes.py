"""Finds type and shape of every tensor of an ONNX graph at one image size, and the nodes that run for each image.

ONNX's own shape inference gives the shapes. Graphs for any image size compute shapes in a way that it cannot follow:
ONNX Runtime folds these parts first, at the requested size. Nodes that depend on constants alone do not run for an
image. Needs onnx, and onnxruntime for graphs of any size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import AttributeProto, NodeProto, TensorProto, TypeProto

from hrda_core.deploy.onnx_graph import basic_optimisations, node_name
from hrda_core.errors import DataError, HrdaError

__all__ = ["StaticGraph", "TensorInfo", "load_static_graph"]

_REWRITES = ("MatMulAddFusion", "Pad_Fusion")
"""Basic optimisations of ONNX Runtime that change operations of these networks; the rest folds constants."""


@dataclass(frozen=True)
class TensorInfo:
    """Type and shape of one tensor.

    Attributes:
        dtype: ONNX element type, for example `FLOAT`, `FLOAT16`, `UINT8`.
        shape: length of every axis; all are known.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def values(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def width(self) -> float:
        """Bytes of one value (half a byte for 4-bit types)."""
        return _WIDTHS[self.dtype]

    @property
    def is_float(self) -> bool:
        """Whether the type is a floating point format, of any width."""
        return "FLOAT" in self.dtype or self.dtype == "DOUBLE"


@dataclass(frozen=True)
class StaticGraph:
    """An ONNX graph at one image size.

    Attributes:
        nodes: nodes that run for each image, in order.
        tensors: type and shape of every tensor, constants included.
        constants: tensors that do not depend on the input.
        makers: for each constant that a node makes, that node.
        outputs: tensors that the graph outputs.
    """

    nodes: tuple[NodeProto, ...]
    tensors: Mapping[str, TensorInfo]
    constants: frozenset[str]
    makers: Mapping[str, NodeProto]
    outputs: tuple[str, ...]


def load_static_graph(path: Path, size: tuple[int, int] | None = None) -> StaticGraph:
    """Read types and shapes of a graph file.

    Args:
        path: ONNX file; weights in files beside it are read only if the graph takes images of any size.
        size: height and width of the image, pixels, for graphs that take any; None = the size stated in the file.

    Raises:
        DataError: the file cannot be read, is made for another size, or holds an operation whose result sizes depend on
            the image.
        MissingPackageError: onnxruntime is not installed, and the graph takes images of any size.
    """
    model = _read(path)
    for node in model.graph.node:
        _refuse_unknown(node, path, model)
    _fix_image(model.graph, path, size)
    tensors = _tensors(model, path)
    if _open_nodes(model.graph, tensors):
        model = _folded(model, path)
        tensors = _tensors(model, path)
    constants, makers = _constants(model.graph)
    running = tuple(node for node in model.graph.node if node.output[0] not in constants)
    if left := [node for node in _open_nodes(model.graph, tensors) if node in running]:
        raise _unknown(left[0], path, "the size of its result is not fixed")
    return StaticGraph(running, tensors, constants, makers, tuple(entry.name for entry in model.graph.output))


def _read(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises classes of its own
        raise DataError(f"'{path}' is not readable as an ONNX graph ({_first_line(error)}); export it again") from error
    if not model.graph.node or not model.graph.input:
        raise DataError(f"'{path}' holds no ONNX graph with an input and nodes; export it again")
    return model


def _refuse_unknown(node: NodeProto, path: Path, model: onnx.ModelProto) -> None:
    if any(entry.type == AttributeProto.GRAPH for entry in node.attribute):
        raise _unknown(node, path, "what it does depends on values")
    version = next((entry.version for entry in model.opset_import if entry.domain == node.domain), 1)
    if not onnx.defs.has(node.op_type, version, node.domain):
        raise _unknown(node, path, f"it is not an operation of ONNX but of domain '{node.domain}'")


def _fix_image(graph: onnx.GraphProto, path: Path, size: tuple[int, int] | None) -> None:
    """Fill the open sides of the inputs: of the first, the image, from `size`."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [entry for entry in graph.input if entry.name not in weights]  # files of old versions list weights too
    for number, entry in enumerate(inputs):
        dims = entry.type.tensor_type.shape.dim
        sides = [side.dim_value for side in dims]
        if number == 0 and size is not None and len(sides) == 4:
            wanted = [sides[0] or 1, *size, sides[3]]
            if any(side not in (0, want) for side, want in zip(sides, wanted, strict=True)):
                raise DataError(
                    f"graph '{path}' is made for images of {sides[1]} x {sides[2]} pixels (height x width), "
                    f"asked for is {size[0]} x {size[1]}; give its size, or export another graph"
                )
            sides = wanted
        if 0 in sides:
            raise DataError(f"graph '{path}' takes images of any size; its cost depends on the size, so give one (HxW)")
        for dim, side in zip(dims, sides, strict=True):
            dim.dim_value = side
    del graph.value_info[:]
    for entry in graph.output:
        entry.ClearField("type")


def _tensors(model: onnx.ModelProto, path: Path) -> dict[str, TensorInfo]:
    """Every tensor whose sides are all known."""
    try:
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise DataError(f"the cost of '{path}' cannot be counted: {_first_line(error)}; {_ADVICE}") from None
    weights = {
        tensor.name: TensorInfo(TensorProto.DataType.Name(tensor.data_type), tuple(tensor.dims))
        for tensor in graph.initializer
    }
    entries = (*graph.input, *graph.value_info, *graph.output)
    return weights | {entry.name: info for entry in entries if (info := _info(entry.type)) is not None}


def _open_nodes(graph: onnx.GraphProto, tensors: Mapping[str, TensorInfo]) -> list[NodeProto]:
    return [node for node in graph.node if any(name and name not in tensors for name in node.output)]


def _folded(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The graph with everything computed that does not depend on the values of the image."""
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        return basic_optimisations(model, without=_REWRITES)
    except HrdaError:
        raise
    except Exception as error:  # ONNX Runtime raises classes of its own that are not exported
        raise DataError(f"the cost of '{path}' cannot be counted: {_first_line(error)}; {_ADVICE}") from error


def _constants(graph: onnx.GraphProto) -> tuple[frozenset[str], dict[str, NodeProto]]:
    """Tensors that do not depend on the image, and the nodes that make some of them."""
    constants = {tensor.name for tensor in graph.initializer}
    makers: dict[str, NodeProto] = {}
    for node in graph.node:
        if node.op_type == "Shape" or all(name in constants for name in node.input if name):
            constants.update(node.output)
            makers.update(dict.fromkeys(node.output, node))
    return frozenset(constants), makers


def _unknown(node: NodeProto, path: Path, reason: str) -> DataError:
    return DataError(
        f"the cost of '{path}' cannot be counted: node '{node_name(node)}' ({node.op_type}): {reason}; {_ADVICE}"
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


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


_ADVICE = "give a graph of standard operations with fixed sizes, as 'hrda export' writes it"

_WIDTHS = {
    **dict.fromkeys(("INT4", "UINT4", "FLOAT4E2M1"), 0.5),
    **dict.fromkeys(("BOOL", "INT8", "UINT8", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 1.0),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 2.0),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 4.0),
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64"), 8.0),
}
