"""Layers of a static graph that may be quantised: `Conv`, `MatMul` and `Gemm` with constant weights. Needs onnx.

Left out, whatever the network, are the first layers, which see camera pixels, and the last, whose results are logits
and attention; and products of two computed tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx
from onnx import NodeProto, TensorProto

from hrda_core.errors import BackendError, RecipeError

__all__ = ["Layer", "layers_kept", "node_attribute", "quantisable_layers"]

_PRODUCTS = ("Conv", "MatMul", "Gemm")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


@dataclass(frozen=True)
class Layer:
    """Weights that can be quantised, and the nodes that use them: in HRDA both branches run the same encoder.

    Attributes:
        name: of its first node, or of the weights where nodes have no names.
        weight: name of the weights.
        kind: `convolution`, `depthwise` or `matmul`.
        shape: of the weights.
        nodes: their names or, where they have none, their results.
        outputs: results of the nodes; the inputs are their first.
        inputs: tensors that the nodes read.
    """

    name: str
    weight: str
    kind: str
    shape: tuple[int, ...]
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def quantisable_layers(model: onnx.ModelProto) -> tuple[Layer, ...]:
    """Layers that may be quantised, in the order in which they run; see the head of this file.

    Raises:
        BackendError: there is none.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type in _FLOATS}
    uses: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        if node.op_type in _PRODUCTS and node.input[1] in weights:
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


def layers_kept(layers: Sequence[Layer], keep: Collection[str]) -> tuple[Layer, ...]:
    """Layers that a pattern names.

    Raises:
        RecipeError: a pattern matches none, or all layers are kept.
    """
    kept: dict[Layer, None] = {}
    for pattern in keep:
        found = [
            layer for layer in layers if any(name == pattern or fnmatchcase(name, pattern) for name in _names(layer))
        ]
        if not found:
            raise RecipeError(
                f"no layer matches '{pattern}', so it cannot be kept in floating point; "
                f"names are, for example, '{layers[0].name}' and '{layers[-1].name}'"
            )
        kept.update(dict.fromkeys(found))
    if len(kept) == len(layers):
        raise RecipeError("all layers are to stay in floating point, so none would be int8; keep fewer, or use fp16")
    return tuple(kept)


def _layer(weight: TensorProto, nodes: Sequence[NodeProto]) -> Layer:
    shape = tuple(weight.dims)
    kind = "matmul"
    if nodes[0].op_type == "Conv":
        kind = "depthwise" if shape[1] == 1 and node_attribute(nodes[0], "group", 1) == shape[0] else "convolution"
    return Layer(
        name=nodes[0].name or weight.name,
        weight=weight.name,
        kind=kind,
        shape=shape,
        nodes=tuple(node.name or node.output[0] for node in nodes),
        inputs=tuple(node.input[0] for node in nodes),
        outputs=tuple(node.output[0] for node in nodes),
    )


def _names(layer: Layer) -> tuple[str, ...]:
    return (layer.name, layer.weight, *layer.nodes, *layer.outputs)


def _between_products(model: onnx.ModelProto) -> set[str]:
    """Float tensors with a layer before and a layer after them.

    Integers are not followed: that `topk` chooses its tiles by the first logits does not make these a hidden layer.
    """
    graph = model.graph
    floats = {info.name for info in graph.value_info if info.type.tensor_type.elem_type in _FLOATS}
    weights = {tensor.name for tensor in graph.initializer}

    def is_layer(node: NodeProto) -> bool:
        return node.op_type in _PRODUCTS and node.input[1] in weights

    after: set[str] = set()
    for node in graph.node:
        if is_layer(node) or any(name in after for name in node.input):
            after.update(name for name in node.output if name in floats)
    before: set[str] = set()
    for node in reversed(graph.node):
        if is_layer(node) or any(name in before for name in node.output):
            before.update(name for name in node.input if name in floats)
    return after & before


def node_attribute(node: NodeProto, name: str, default: int) -> int:
    """An integer attribute of a node."""
    return next((entry.i for entry in node.attribute if entry.name == name), default)
