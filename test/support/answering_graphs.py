"""Hand-made ONNX graphs that do not answer like a model, and one that does as long as its weight is finite."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def network_graph(weight: float) -> bytes:
    """What `DeployGraph` writes, of a network of one weight: logits, softmax of the winner, two casts."""
    make = helper.make_node
    nodes = [
        make("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        make("Gather", ["pixels", "green"], ["plane"], axis=3),
        make("Mul", ["plane", "weight"], ["weighted"]),
        make("Concat", ["plane", "weighted"], ["logits"], axis=3),
        make("ReduceMax", ["logits", "axis"], ["top"], keepdims=1),
        make("ArgMax", ["logits"], ["winner"], axis=3, keepdims=0),
        make("Sub", ["logits", "top"], ["below"]),
        make("Exp", ["below"], ["exponents"]),
        make("ReduceSum", ["exponents", "axis"], ["sum"], keepdims=0),
        make("Div", ["full", "sum"], ["sure"]),
        make("Cast", ["sure"], ["confidence"], to=TensorProto.UINT8),
        make("Cast", ["winner"], ["labels"], to=TensorProto.UINT8),
    ]
    constants = {"green": np.array([1]), "axis": np.array([3])}
    floats = {"weight": np.float32(weight), "full": np.float32(255)}
    return _graph(nodes, {**constants, **{k: np.array(v) for k, v in floats.items()}}, ["height", "width"])


def constant_graph(label: int, confidence: int) -> bytes:
    """One class and one confidence for all pixels."""
    make = helper.make_node
    nodes = [
        make("Cast", ["image"], ["pixels"], to=TensorProto.INT32),
        make("ReduceMax", ["pixels", "axis"], ["plane"], keepdims=0),
        make("Mul", ["plane", "zero"], ["zeros"]),
        make("Add", ["zeros", "label"], ["ids"]),
        make("Add", ["zeros", "sure"], ["certain"]),
        make("Cast", ["ids"], ["labels"], to=TensorProto.UINT8),
        make("Cast", ["certain"], ["confidence"], to=TensorProto.UINT8),
    ]
    constants = {"axis": np.array([3]), "zero": np.int32(0), "label": np.int32(label), "sure": np.int32(confidence)}
    return _graph(nodes, {name: np.array(value) for name, value in constants.items()}, ["height", "width"])


def other_masks_graph(shape: Sequence[int], dtype: int) -> bytes:
    """Masks of ones, of a fixed shape and a type."""
    make = helper.make_node
    ones = numpy_helper.from_array(np.ones(1, helper.tensor_dtype_to_np_dtype(dtype)), "one")
    nodes = [make("ConstantOfShape", ["shape"], [name], value=ones) for name in ("labels", "confidence")]
    return _graph(nodes, {"shape": np.array(shape)}, list(shape[1:]), dtype)


def _graph(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], sides: list[object], dtype: int = TensorProto.UINT8
) -> bytes:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "height", "width", 3])
    masks = [helper.make_tensor_value_info(name, dtype, [1, *sides]) for name in ("labels", "confidence")]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "made", [image], masks, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
