"""The rules themselves: each is found where a graph breaks it, and the traps of the compile gate break them too."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tensorrt_parser_rules import broken_rules

FLOAT, BYTES = TensorProto.FLOAT, TensorProto.UINT8


def graph(nodes, inputs, outputs, weights=None, opset: int = 20) -> onnx.ModelProto:
    def values(entries):
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in entries.items()]

    constants = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    made = helper.make_graph(nodes, "made", values(inputs), values(outputs), constants)
    return onnx.shape_inference.infer_shapes(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    )


def node(operation: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(operation, inputs.split(), outputs.split(), **attributes)


IMAGE = {"x": (FLOAT, [1, 3, 8, 8])}
SCALES = {"scales": np.array([1, 1, 2, 2], np.float32)}


def test_a_graph_that_keeps_to_them_breaks_none():
    nodes = [
        node("Cast", "image", "floats", to=FLOAT),
        node("ArgMax", "floats", "ids", axis=3, keepdims=0),
        node("Cast", "ids", "float_ids", to=FLOAT),
        node("Cast", "float_ids", "labels", to=BYTES),
    ]
    assert broken_rules(graph(nodes, {"image": (BYTES, [1, 8, 8, 3])}, {"labels": (BYTES, [1, 8, 8])})) == []


BROKEN = {
    "opset 21 is above 20": ([node("Relu", "x", "y")], IMAGE, {"y": IMAGE["x"]}, {}, 21),
    "'.Det' is not among those looked up": ([node("Det", "x", "y")], IMAGE, {"y": (FLOAT, [1, 3])}),
    "works on the uint8 tensor 'image'": (
        [node("Transpose", "image", "t", perm=[0, 3, 1, 2]), node("Cast", "t", "y", to=FLOAT)],
        {"image": (BYTES, [1, 8, 8, 3])},
        {"y": (FLOAT, [1, 3, 8, 8])},
    ),
    "'inner' is uint8 inside the graph": (
        [node("Cast", "x", "inner", to=BYTES), node("Cast", "inner", "y", to=FLOAT)],
        IMAGE,
        {"y": IMAGE["x"]},
    ),
    "to uint8 from INT64; only from float": (
        [node("ArgMax", "x", "ids", axis=1, keepdims=0), node("Cast", "ids", "y", to=BYTES)],
        IMAGE,
        {"y": (BYTES, [1, 8, 8])},
    ),
    "input 1 is computed": (
        [node("ReduceSum", "x axes", "y", keepdims=0)],
        {**IMAGE, "axes": (TensorProto.INT64, [1])},
        {"y": (FLOAT, None)},
    ),
    "has more outputs than the first": (
        [node("LayerNormalization", "x scale", "y mean")],
        IMAGE,
        {"y": IMAGE["x"], "mean": (FLOAT, [1, 3, 8, 1])},
        {"scale": np.ones(8, np.float32)},
    ),
    "antialias": (
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear", antialias=1)],
        IMAGE,
        {"y": (FLOAT, [1, 3, 16, 16])},
        SCALES,
    ),
    "mode b'cubic'": (
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="cubic")],
        IMAGE,
        {"y": (FLOAT, [1, 3, 16, 16])},
        SCALES,
    ),
    "its zero point must be a constant int8 of 0": (
        [node("QuantizeLinear", "x scale zero", "q"), node("DequantizeLinear", "q scale zero", "y")],
        IMAGE,
        {"y": IMAGE["x"]},
        {"scale": np.array(0.1, np.float32), "zero": np.array(3, np.int8)},
    ),
}


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_rule_is_told(text):
    assert any(text in line for line in broken_rules(graph(*BROKEN[text])))
