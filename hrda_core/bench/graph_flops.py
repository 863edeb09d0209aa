"""Counts the FLOPs of one ONNX node: convolutions, matrix products and attention; everything else is 0.

A multiply-add is 2, as in torch's counter (`torch.utils.flop_counter`). Needs onnx.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from onnx import NodeProto, helper

from hrda_core.bench.graph_shapes import TensorInfo
from hrda_core.deploy.onnx_graph import node_name
from hrda_core.errors import DataError

__all__ = ["MATH_OPS", "node_flops", "refuse_uncounted"]

Tensors = Mapping[str, TensorInfo]

_NO_RULE = frozenset(
    {
        "ConvInteger",
        "DFT",
        "DeformConv",
        "Det",
        "Einsum",
        "GRU",
        "LSTM",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "RNN",
        "STFT",
    }
)
"""Operations that multiply and add but have no rule here: counting them as 0 would be a wrong answer."""


def node_flops(node: NodeProto, tensors: Tensors) -> int:
    """Return the floating point operations of one node at the shapes of `tensors`."""
    rule = _RULES.get(node.op_type)
    return 0 if rule is None else rule(node, tensors)


def refuse_uncounted(node: NodeProto) -> None:
    """Refuse a node whose operation costs FLOPs and has no counting rule.

    Raises:
        DataError: it is such a node.
    """
    if node.op_type in _NO_RULE:
        raise DataError(
            f"the FLOPs of node '{node_name(node)}' ({node.op_type}) cannot be counted; "
            f"the counter knows {', '.join(sorted(MATH_OPS))}"
        )


def _convolution(node: NodeProto, tensors: Tensors) -> int:
    # Weights are (out, in / groups, *kernel): each output value sums over all but the first axis.
    return 2 * tensors[node.output[0]].values * math.prod(tensors[node.input[1]].shape[1:])


def _transposed_convolution(node: NodeProto, tensors: Tensors) -> int:
    # Weights are (in, out / groups, *kernel): each input value goes into all but the first axis.
    return 2 * tensors[node.input[0]].values * math.prod(tensors[node.input[1]].shape[1:])


def _product(node: NodeProto, tensors: Tensors) -> int:
    return 2 * tensors[node.output[0]].values * tensors[node.input[0]].shape[-1]


def _gemm(node: NodeProto, tensors: Tensors) -> int:
    shape = tensors[node.input[0]].shape
    return 2 * tensors[node.output[0]].values * (shape[0] if _attribute(node, "transA", 0) else shape[1])


def _attention(node: NodeProto, tensors: Tensors) -> int:
    """Both products; queries (B, heads, L, size), or (B, L, heads * size) with the heads as an attribute."""
    query, key, value = (tensors[name].shape for name in node.input[:3])
    if len(query) == 4:
        batch, heads, length, width = query
        keys, value_width = key[2], value[3]
    else:
        batch, length, whole = query
        heads = int(_attribute(node, "q_num_heads", 1))
        width, keys, value_width = whole // heads, key[1], value[2] // int(_attribute(node, "kv_num_heads", 1))
    return 2 * batch * heads * length * keys * (width + value_width)


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)


_RULES: Mapping[str, Callable[[NodeProto, Tensors], int]] = {
    "Attention": _attention,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    "MatMul": _product,
}
MATH_OPS = frozenset(_RULES)
"""Operations that have FLOPs."""
