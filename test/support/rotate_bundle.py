"""A bundle with a hand-made graph of plan `rotate`, whose masks show what it was given of earlier frames.

It is for images of 64 x 64 pixels and has two tiles, of which one runs for a frame.
`rotate`: labels = number of tiles whose remembered detail may be used; confidence = green.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import write_tiny_bundle

SIZE = (64, 64)
MEMORY = (2, 1, 2, 2)
"""Tiles, classes, rows and columns of the detail logits."""


def write_rotate_bundle(folder: Path) -> Path:
    """Write the bundle `tiny` with that graph added."""
    (folder / "graphs").mkdir(parents=True)
    (folder / "graphs" / "rotate.onnx").write_bytes(_graph())
    entry = {
        "plan": "rotate",
        "file": "graphs/rotate.onnx",
        "grid": [1, 2],
        "size": list(SIZE),
        "precision": "fp32",
        "keep": 1,
        "memory": list(MEMORY),
    }
    return write_tiny_bundle(folder, static_graphs=[entry])


def _graph() -> bytes:
    height, width = SIZE
    constants = {
        "one": np.array(1, np.int64),
        "shape": np.array([1, height, width], np.int64),
        "nothing": np.zeros((1, *MEMORY[1:]), np.float32),
        "none": np.array(0, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["image", "one"], ["confidence"], axis=3),
        helper.make_node("ReduceSum", ["present"], ["known"], keepdims=1),
        helper.make_node("Cast", ["known"], ["count"], to=TensorProto.UINT8),
        helper.make_node("Expand", ["count", "shape"], ["labels"]),
        # All inputs are used, so that none is dropped; the detail that it gives is zero.
        helper.make_node("Gather", ["memory", "tiles"], ["old"], axis=0),
        helper.make_node("Mul", ["old", "none"], ["zero"]),
        helper.make_node("Add", ["zero", "nothing"], ["detail"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rotate",
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, [1, height, width, 3]),
            helper.make_tensor_value_info("tiles", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("memory", TensorProto.FLOAT, list(MEMORY)),
            helper.make_tensor_value_info("present", TensorProto.FLOAT, [MEMORY[0]]),
        ],
        [
            helper.make_tensor_value_info("labels", TensorProto.UINT8, [1, height, width]),
            helper.make_tensor_value_info("confidence", TensorProto.UINT8, [1, height, width]),
            helper.make_tensor_value_info("detail", TensorProto.FLOAT, [1, *MEMORY[1:]]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
