"""Finds the layers of a static graph that may be quantised: `Conv`, `MatMul`, `Gemm` with constant weights. Needs onnx.

The first layers, which see camera pixels, the last layers, whose results are logits and attention, and products of two
computed tensors are always left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
from onnx import NodeProto, TensorProto

from hrda_core.deploy.onnx_graph import node_name
from hrda_core.errors import BackendError

__all__ = ["LAYER_KINDS", "Layer", "quantisable_layers"]

LAYER_KINDS = ("Conv", "MatMul", "Gemm")
"""Operations that are layers where their weights are constants."""

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class Layer:
    """Weights that can be quantised, and the nodes that use them: in HRDA both branches run the same encoder.

    Attributes:
        name: name of its first node, or of the weights where nodes have no names.
        weight: name of the weights.
        kind: `convolution`, `depthwise` or `matmul`.
        shape: shape of the weights.
        nodes: names of the nodes or, where they have none, their results.
        outputs: results of the nodes.
    """

    name: str
    weight: str
    kind: str
    shape: tuple[int, ...]
    nodes: tuple[str, ...]
    outputs: tuple[str, ...]


def quantisable_layers(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """Return the layers that may be quantised, in the order in which they run; see the module's docstring.

    Raises:
        BackendError: there is none.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type in _FLOATS}
    uses: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        if node.op_type in LAYER_KINDS and node.input[1] in weights:
            uses.setdefault(node.input[1], []).append(node)
    inner = _between_products(model)
    layers = tuple(
        _layer(weights[weight], nodes)
        for weight, nodes in uses.items()
        if all(node.input[0] in inner and node.output[0] in inner for node in nodes)
    )
    if not layers:
        raise BackendError(
            "the graph has no layer between its first and its last whose weights are constants, so nothing can be "
            "quantised; give a static graph with constants folded, as 'hrda export --size' writes it"
        )
    return layers


def _layer(weight: TensorProto, nodes: Sequence[NodeProto]) -> Layer:
    shape = tuple(weight.dims)
    kind = "matmul"
    if nodes[0].op_type == "Conv":
        group = next((entry.i for entry in nodes[0].attribute if entry.name == "group"), 1)
        kind = "depthwise" if shape[1] == 1 and shape[0] == group else "convolution"
    return Layer(
        name=nodes[0].name or weight.name,
        weight=weight.name,
        kind=kind,
        shape=shape,
        nodes=tuple(node_name(node) for node in nodes),
        outputs=tuple(node.output[0] for node in nodes),
    )


def _between_products(model: onnx.ModelProto) -> set[str]:
    """Float tensors with a layer before and a layer after them.

    Integers are not followed: that `topk` chooses its tiles by the first logits does not make these a hidden layer.
    """
    graph = model.graph
    floats = {info.name for info in graph.value_info if info.type.tensor_type.elem_type in _FLOATS}
    weights = {tensor.name for tensor in graph.initializer}

    def is_layer(node: NodeProto) -> bool:
        return node.op_type in LAYER_KINDS and node.input[1] in weights

    after: set[str] = set()
    for node in graph.node:
        if is_layer(node) or any(name in after for name in node.input):
            after.update(name for name in node.output if name in floats)
    before: set[str] = set()
    for node in reversed(graph.node):
        if is_layer(node) or any(name in before for name in node.output):
            before.update(name for name in node.input if name in floats)
    return after & before
