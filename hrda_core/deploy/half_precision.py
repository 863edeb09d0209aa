"""Writes half precision into a single-precision static graph: networks in fp16, delicate parts in fp32. Needs onnx.

TensorRT 10 and 11 build strongly typed: they read the number format of every tensor from the file. General converters
fail on the casts of this graph (camera bytes in, class ids out), so this pass treats its two regions separately:

- Nodes of encoder, decoder and attention decoder (by their module path) become fp16.
- LayerNorm, softmax and other reductions inside them, the classifiers, and all nodes outside (normalisation, context
  resize, fusion, enlarging, argmax, confidence) stay fp32.
- On demand the first layers of the encoder, on grids finer than stride 4, stay fp32 too: in dark images pixels differ
  by a few steps far from zero, which fp16 rounds most (hrda_lite at dusk: 99.83 % equal pixels without, 99.87 % with).

A Cast stands wherever a tensor crosses the border.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["FLOAT_OPERATIONS", "in_half_precision"]

FLOAT_OPERATIONS = frozenset(
    {"LayerNormalization", "Softmax", "Sigmoid", "ReduceMean", "ReduceSum", "ReduceMax", "Exp", "Pow", "Sqrt"}
)
"""Operations that stay in fp32 also inside the networks: their sums and exponentials leave the range of fp16."""

_NETWORK = re.compile(r"/(backbone|head|decode_head|scale_attention)(_\d+)?/")

_ENCODER = re.compile(r"/backbone(_\d+)?/")

_CLASSIFIER = re.compile(r"/(conv_seg|linear_pred)(_\d+)?/")
"""The last layer of a decoder: a thousandth of the work, and rounding its logits moves the most pixels."""

_UNTYPED_INPUTS = {"Resize": (1, 2, 3), "Clip": (), "Pad": (1, 3), "Slice": (1, 2, 3, 4), "Reshape": (1,)}
"""Inputs that are no numbers of the computation: sizes, scales, axes. Integers are told by their type anyway."""


def in_half_precision(model: onnx.ModelProto, *, first_layers: bool = True) -> onnx.ModelProto:
    """Return the same graph with fp16 inside the networks; inputs and outputs keep their types.

    Args:
        model: static graph in fp32 with shapes inferred and module paths as node names (`onnx_writing`).
        first_layers: also write the layers of the encoder on grids finer than stride 4 in fp16.

    Raises:
        ValueError: no node belongs to a network, so that nothing would change.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    rewriter = _Rewriter(half, set() if first_layers else _fine_nodes(model))
    if not rewriter.in_half:
        raise ValueError("no node of the graph has the name of an encoder or decoder")
    nodes = [node for original in half.graph.node for node in rewriter.rewritten(original)]
    del half.graph.node[:]
    half.graph.node.extend(nodes)
    half.graph.initializer.extend(rewriter.halves)
    _drop_unused_initializers(half.graph)
    del half.graph.value_info[:]
    inferred: onnx.ModelProto = onnx.shape_inference.infer_shapes(half, strict_mode=True)
    onnx.checker.check_model(inferred, full_check=True)
    return inferred


def _may_be_half(node: onnx.NodeProto) -> bool:
    inside = _NETWORK.search(node.name) and not _CLASSIFIER.search(node.name)
    return bool(inside) and node.op_type not in FLOAT_OPERATIONS


def _fine_nodes(model: onnx.ModelProto) -> set[str]:
    """Names of the encoder's nodes whose maps are finer than stride 4; each branch has a size of its own."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    rows = {
        info.name: info.type.tensor_type.shape.dim[2].dim_value
        for info in inferred.value_info
        if len(info.type.tensor_type.shape.dim) == 4
    }
    image_rows: dict[str, int] = {}
    fine = set()
    for node in model.graph.node:
        branch = _ENCODER.search(node.name)
        if branch is None:
            continue
        first = image_rows.setdefault(branch[0], rows.get(node.input[0], 0))
        if 4 * rows.get(node.output[0], 0) > first:
            fine.add(node.name)
    return fine


class _Rewriter:
    """Decides node by node, and adds casts where a float tensor is wanted in the other format."""

    def __init__(self, model: onnx.ModelProto, in_float: Collection[str]) -> None:
        graph = model.graph
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.floats = {
            info.name
            for info in [*inferred.value_info, *inferred.input, *inferred.output]
            if info.type.tensor_type.elem_type == TensorProto.FLOAT
        } | {name for name, tensor in self.weights.items() if tensor.data_type == TensorProto.FLOAT}
        results = {info.name for info in graph.output}
        self.in_half = {
            name
            for node in graph.node
            if _may_be_half(node) and node.name not in in_float
            for name in node.output
            if name in self.floats and name not in results
        }
        self.halves: list[onnx.TensorProto] = []
        self._made: set[str] = set()

    def rewritten(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """Casts that the node needs, then the node."""
        wants_half = any(name in self.in_half for name in node.output)
        untyped = _UNTYPED_INPUTS.get(node.op_type, ())
        for position, name in enumerate(node.input):
            if name not in self.floats or position in untyped:
                continue
            if name in self.weights:
                if wants_half:
                    node.input[position] = self._half_weight(name)
            elif (name in self.in_half) != wants_half:
                wanted = f"{name}.{'half' if wants_half else 'float'}"
                if wanted not in self._made:
                    self._made.add(wanted)
                    kind = TensorProto.FLOAT16 if wants_half else TensorProto.FLOAT
                    yield helper.make_node("Cast", [name], [wanted], name=f"{node.name}/Cast_{position}", to=kind)
                node.input[position] = wanted
        yield node

    def _half_weight(self, name: str) -> str:
        wanted = f"{name}.half"
        if wanted not in self._made:
            self._made.add(wanted)
            values = numpy_helper.to_array(self.weights[name])
            largest = np.finfo(np.float16).max  # the bounds of a Clip may be those of fp32
            self.halves.append(numpy_helper.from_array(np.clip(values, -largest, largest).astype(np.float16), wanted))
        return wanted


def _drop_unused_initializers(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
