"""Graphs for the compile gate: small ones as the exporter writes them, and ones that TensorRT must refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from hrda_core.deploy.deploy_graph import static_graph
from hrda_core.deploy.folding import folded
from hrda_core.deploy.half_precision import in_half_precision
from hrda_core.deploy.int8.layers import quantisable_layers
from hrda_core.deploy.int8.writing import activation_ranges, with_int8
from hrda_core.deploy.network import load_network
from hrda_core.deploy.onnx_writing import trace, with_constants_folded
from hrda_core.inference.bundle import Bundle
from hrda_core.models.create import create_model
from hrda_core.window_plan import PlanChoice, SizeRules, plan_windows

__all__ = ["REFUSED", "deploy_graph", "shipped_bundle", "write_refused"]

OPSET = 20
"""What `hrda export` writes."""

REPOSITORY = Path(__file__).resolve().parents[2]


def deploy_graph(
    preset: str, plan: str, precision: str, size: tuple[int, int] = (256, 256), **options: int
) -> onnx.ModelProto:
    """A static graph from the parts of `hrda export`: folded, traced, tidied, in its precision.

    Args:
        preset: `hrda_lite` has the weights of the shipped model, others have random ones.
        precision: fp32, fp16 or int8, the last calibrated on one image of noise.
        size: height and width of the image, pixels.
        options: of `PlanChoice`.
    """
    torch.manual_seed(0)
    network = (load_network(shipped_bundle()) if preset == "hrda_lite" else create_model(preset)).eval()
    choice = PlanChoice(plan, (2, 2), **options)
    windows = plan_windows(choice, *size, SizeRules(multiple_of=64))
    module = static_graph(folded(network), windows, (123.7, 116.3, 103.5), (58.4, 57.1, 57.4))
    inputs = {"image": torch.zeros(1, windows.padded_height, windows.padded_width, 3, dtype=torch.uint8)}
    graph = with_constants_folded(trace(module, inputs, ["labels", "confidence"], opset=OPSET))
    if precision == "int8":
        noise = np.random.default_rng(0).integers(0, 256, tuple(inputs["image"].shape), np.uint8)
        return with_int8(graph, quantisable_layers(graph), activation_ranges(graph, [noise]), "tensorrt")
    return in_half_precision(graph) if precision == "fp16" else graph


def shipped_bundle() -> Bundle:
    """The model in the repository."""
    return Bundle.open(REPOSITORY / "models" / "hrda_lite", verify=False)


def write_refused(name: str, folder: Path) -> Path:
    """Write one of `REFUSED`: valid ONNX, each a trap that our export has to go round."""
    nodes, kind, shape, result, weights = REFUSED[name]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    return path


REFUSED = {
    "bytes_transposed_before_the_cast": (
        [
            helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Cast", ["planes"], ["y"], to=TensorProto.FLOAT),
        ],
        TensorProto.UINT8,
        [1, 8, 8, 3],
        [1, 3, 8, 8],
        {},
    ),
    "bias_quantised_to_int32": (
        [
            helper.make_node("DequantizeLinear", ["bias", "scale"], ["bias_float"]),
            helper.make_node("Conv", ["x", "weights", "bias_float"], ["y"]),
        ],
        TensorProto.FLOAT,
        [1, 3, 8, 8],
        [1, 4, 8, 8],
        {
            "bias": np.arange(4, dtype=np.int32),
            "scale": np.array(0.1, np.float32),
            "weights": np.ones((4, 3, 1, 1), np.float32),
        },
    ),
    "more_candidates_than_topk_takes": (
        [helper.make_node("TopK", ["x", "k"], ["y", "indices"], axis=1)],
        TensorProto.FLOAT,
        [1, 8000],
        [1, 5000],
        {"k": np.array([5000], np.int64)},
    ),
}
"""Nodes, type and shape of the input, shape of the output, and weights, by what is wrong.

The last one parses, and the compiler refuses it.
"""
