"""A bundle of two hand-made ONNX graphs whose masks are known from the pixels: no torch, no training, 2 ms a frame.

`tiles`:   labels = red // 16 (0..15), of a smaller label space at most its last class; confidence = green, but at least
           1, as every probability of a winning class
`context`: labels = blue // 16,        confidence likewise
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    return np.maximum(rgb[..., 1], 1)


def write_tiny_bundle(
    folder: Path, *, long_side: int = 0, model: bytes | None = None, weights_mb: int = 0, **changes: object
) -> Path:
    """Write the bundle.

    Args:
        model: another graph for the plan `tiles`.
        weights_mb: size of weights that change nothing.
        changes: overwrite keys of the manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest: dict[str, Any] = {
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
    manifest |= changes
    space = manifest["label_space"]
    last = len(space["classes"]) - 1 if isinstance(space, dict) and "classes" in space else 255
    (folder / "model.onnx").write_bytes(model or _graph(0, last, weights_mb))
    (folder / "context.onnx").write_bytes(_graph(2, last))
    write_manifest(folder, manifest)
    return folder


def _graph(label_channel: int, last: int, weights_mb: int = 0) -> bytes:
    def channel(name: str, index: int) -> onnx.NodeProto:
        return helper.make_node("Gather", ["ints", f"index{index}"], [name], axis=3)

    indices = [numpy_helper.from_array(np.array(i, np.int64), f"index{i}") for i in sorted({label_channel, 1})]
    nodes = [
        helper.make_node("Cast", ["image"], ["ints"], to=TensorProto.INT32),
        channel("chosen", label_channel),
        channel("green", 1),
        helper.make_node("Div", ["chosen", "sixteen"], ["sixteenths"]),
        helper.make_node("Min", ["sixteenths", "last"], ["without_weights" if weights_mb else "ids"]),
        *(
            [
                helper.make_node("Gather", ["weights", "without_weights"], ["zeros"]),
                helper.make_node("Add", ["without_weights", "zeros"], ["ids"]),
            ]
            if weights_mb
            else []
        ),
        helper.make_node("Cast", ["ids"], ["labels"], to=TensorProto.UINT8),
        helper.make_node("Max", ["green", "one"], ["sure"]),
        helper.make_node("Cast", ["sure"], ["confidence"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, "height", "width", 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.UINT8, [1, "height", "width"])
            for name in ("labels", "confidence")
        ],
        [
            *indices,
            *([numpy_helper.from_array(np.zeros(weights_mb << 18, np.int32), "weights")] if weights_mb else []),
            *(
                numpy_helper.from_array(np.array(n, np.int32), name)
                for n, name in ((16, "sixteen"), (1, "one"), (last, "last"))
            ),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()
