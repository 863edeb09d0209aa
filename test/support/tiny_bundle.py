"""A bundle of two hand-made ONNX graphs whose masks are known from the pixels: no torch, no training, 2 ms a frame.

`tiles`:   labels = red // 16 (0..15), confidence = green
`context`: labels = blue // 16,        confidence = green
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hrda_core.inference.bundle import write_manifest
from hrda_core.labels import CITYSCAPES19

MULTIPLE_OF = 64


def expected_labels(rgb: np.ndarray, plan: str = "tiles") -> np.ndarray:
    """The class ids that the bundle gives for uint8 (H, W, 3): uint8 (H, W)."""
    return rgb[..., 0 if plan == "tiles" else 2] // 16


def expected_confidence(rgb: np.ndarray) -> np.ndarray:
    """The confidence that the bundle gives: uint8 (H, W)."""
    return rgb[..., 1]


def write_tiny_bundle(folder: Path, *, long_side: int = 0, **changes: object) -> Path:
    """Write the bundle; `changes` overwrite manifest keys."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(_graph(label_channel=0))
    (folder / "context.onnx").write_bytes(_graph(label_channel=2))
    manifest = {
        "name": "tiny",
        "preset": "tiny",
        "label_space": CITYSCAPES19.to_dict(),
        "normalisation": {"mean": [127.5] * 3, "std": [127.5] * 3},
        "input": {"multiple_of": MULTIPLE_OF, "long_side": long_side},
        "context_scale": 0.5,
        "default_plan": "tiles",
        "graphs": {
            "tiles": {"file": "model.onnx", "grid": [2, 2]},
            "context": {"file": "context.onnx"},
        },
        "provenance": {"licence": "Apache-2.0"},
    }
    write_manifest(folder, {**manifest, **changes})
    return folder


def _graph(label_channel: int) -> bytes:
    def channel(name: str, index: int) -> onnx.NodeProto:
        return helper.make_node("Gather", ["ints", f"index{index}"], [name], axis=3)

    indices = [numpy_helper.from_array(np.array(i, np.int64), f"index{i}") for i in sorted({label_channel, 1})]
    nodes = [
        helper.make_node("Cast", ["image"], ["ints"], to=TensorProto.INT32),
        channel("chosen", label_channel),
        channel("green", 1),
        helper.make_node("Div", ["chosen", "sixteen"], ["ids"]),
        helper.make_node("Cast", ["ids"], ["labels"], to=TensorProto.UINT8),
        helper.make_node("Cast", ["green"], ["confidence"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "height", "width", 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.UINT8, [1, "height", "width"])
            for name in ("labels", "confidence")
        ],
        [*indices, numpy_helper.from_array(np.array(16, np.int32), "sixteen")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
