"""A hand-made static segmentation graph: every kind of layer that quantisation meets, computed in a millisecond.

    image -> stem -> depthwise -> expand -> project (+ residual) -> attention product, matrix product -> classifier

Weights are random; each layer's can be replaced. No torch.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

CLASSES, WIDTH = 5, 8
HEIGHT, LENGTH = 24, 32
LAYERS = ("depthwise", "expand", "project", "mix")
"""Those between the first and the last; `mix` is a matrix product."""


def small_graph(*, opset: int = 20, names: bool = True, **weights: np.ndarray) -> onnx.ModelProto:
    """The graph, with shapes inferred.

    Args:
        opset: ONNX operator set.
        names: give nodes their names.
        weights: replaces weights by the layer's name.
    """
    constants = {**_weights(), **{f"{name}.weight": value for name, value in weights.items()}}
    nodes = _nodes(opset)
    for node in nodes:
        node.name = f"/network/{node.output[0]}" if names else ""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, HEIGHT, LENGTH, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.UINT8, [1, HEIGHT, LENGTH])
            for name in ("labels", "confidence")
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def street(seed: int = 0, *, brightness: float = 1.0) -> np.ndarray:
    """An image with large shapes and some noise: uint8 (1, HEIGHT, LENGTH, 3)."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (3, 4, 3)).repeat(HEIGHT // 3, 0).repeat(LENGTH // 4, 1)
    noisy = (coarse + random.normal(0, 8, coarse.shape)) * brightness
    return noisy.clip(0, 255).astype(np.uint8)[None]


def _weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        fan_in = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
        return (random.normal(0, 1, shape) * np.sqrt(2 / fan_in)).astype(np.float32)

    kernels = {
        "stem": (WIDTH, 3, 3, 3),
        "depthwise": (WIDTH, 1, 3, 3),
        "expand": (3 * WIDTH, WIDTH, 1, 1),
        "project": (WIDTH, 3 * WIDTH, 1, 1),
        "mix": (WIDTH, WIDTH),
        "classifier": (CLASSES, WIDTH, 1, 1),
    }
    weights = {f"{name}.weight": normal(*shape) for name, shape in kernels.items()}
    for name in ("stem", "depthwise", "expand", "project", "classifier"):
        weights[f"{name}.bias"] = random.normal(0, 0.2, kernels[name][0]).astype(np.float32)
    weights["classifier.weight"] *= 4  # spread the logits, so that the winner does not hang on the last digit
    return {
        **weights,
        "half": np.array(127.5, np.float32),
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
        "share": np.array(1 / (HEIGHT * LENGTH), np.float32),
        "full": np.array(255, np.float32),
        "flat": np.array([1, WIDTH, HEIGHT * LENGTH], np.int64),
        "deep": np.array([1, WIDTH, HEIGHT, LENGTH], np.int64),
        "axis": np.array([1], np.int64),
    }


def _conv(name: str, source: str, **attributes: object) -> NodeProto:
    return helper.make_node("Conv", [source, f"{name}.weight", f"{name}.bias"], [name], **attributes)


def _nodes(opset: int) -> list[NodeProto]:
    make = helper.make_node
    reduce_max = {"axes": [1]} if opset < 18 else {}
    return [
        make("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        make("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        make("Sub", ["planes", "half"], ["centred"]),
        make("Div", ["centred", "half"], ["normalised"]),
        _conv("stem", "normalised", pads=[1, 1, 1, 1]),
        make("Clip", ["stem", "zero", "six"], ["stem_act"]),
        _conv("depthwise", "stem_act", pads=[1, 1, 1, 1], group=WIDTH),
        make("Clip", ["depthwise", "zero", "six"], ["depthwise_act"]),
        _conv("expand", "depthwise_act"),
        make("Relu", ["expand"], ["expand_act"]),
        _conv("project", "expand_act"),
        make("Add", ["project", "stem_act"], ["residual"]),
        # (1, C, N) x (1, N, C): how channels go together, which weighs them like attention does.
        make("Reshape", ["residual", "flat"], ["channels"]),
        make("Transpose", ["channels"], ["tokens"], perm=[0, 2, 1]),
        make("MatMul", ["channels", "tokens"], ["products"]),
        make("Mul", ["products", "share"], ["scores"]),
        make("Softmax", ["scores"], ["weights"], axis=-1),
        make("MatMul", ["tokens", "weights"], ["attended"]),
        make("MatMul", ["attended", "mix.weight"], ["mix"]),
        make("Add", ["mix", "tokens"], ["mixed"]),
        make("Transpose", ["mixed"], ["rows"], perm=[0, 2, 1]),
        make("Reshape", ["rows", "deep"], ["features"]),
        _conv("classifier", "features"),
        make("ReduceMax", ["classifier", "axis"] if opset >= 18 else ["classifier"], ["top"], keepdims=1, **reduce_max),
        make("Sub", ["classifier", "top"], ["below"]),
        make("Exp", ["below"], ["exponents"]),
        make("ReduceSum", ["exponents", "axis"], ["sum"], keepdims=0),
        make("Div", ["full", "sum"], ["sure"]),
        make("Cast", ["sure"], ["confidence"], to=TensorProto.UINT8),
        make("ArgMax", ["classifier"], ["winner"], axis=1, keepdims=0),
        make("Cast", ["winner"], ["winner_float"], to=TensorProto.FLOAT),
        make("Cast", ["winner_float"], ["labels"], to=TensorProto.UINT8),
    ]
