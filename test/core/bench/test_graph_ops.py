"""The op list of a graph: FLOPs as torch counts them, and bytes by the stated rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from tiny_network import TINY

from hrda_core.bench.graph_ops import GraphOp, graph_ops
from hrda_core.bench.roofline import DEVICES, roofline
from hrda_core.deploy.deploy_graph import DeployGraph
from hrda_core.deploy.folding import folded
from hrda_core.deploy.onnx_writing import trace
from hrda_core.errors import DataError
from hrda_core.models import create_model
from hrda_core.window_plan import PlanChoice
from hrda_core.windows.flops import plan_flops

Write = Callable[..., Path]
SIZE = (1088, 1920)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a graph from `x` float (1, 4, 8, 8) to `y`, and return its path."""

    def write_graph(
        nodes: Sequence[NodeProto],
        weights: dict[str, np.ndarray] | None = None,
        *,
        shape: Sequence[Any] = (1, 4, 8, 8),
        dtype: int = TensorProto.FLOAT,
        opset: int = 20,
    ) -> Path:
        graph = helper.make_graph(
            list(nodes),
            "made",
            [helper.make_tensor_value_info("x", dtype, shape)],
            [helper.make_empty_tensor_value_info("y")],
            [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("elsewhere", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "made.onnx")
        return tmp_path / "made.onnx"

    return write_graph


def node(kind: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def moved(ops: Sequence[GraphOp]) -> int:
    return sum(op.bytes for op in ops)


MAP = 4 * 8 * 8 * 4  # bytes of `x`


def test_a_convolution_with_its_epilogue_is_one_op(write: Write) -> None:
    path = write(
        [
            node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
            node("Relu", "c", "r"),
            node("Add", "r x", "y"),
        ],
        {"w": floats(4, 4, 3, 3), "b": floats(4)},
    )
    (op,) = graph_ops(path)
    assert (op.kind, op.nodes, op.precision) == ("Conv", ("c", "r", "y"), "fp32")
    assert op.flops == 2 * (4 * 8 * 8) * (4 * 3 * 3)
    # `x` once although two nodes look at it, the result once, and the weights.
    assert op.bytes == 2 * MAP + 4 * (4 * 4 * 9 + 4)
    assert op.bytes_at(2) == op.bytes / 2


def test_a_result_with_two_readers_is_written_and_read(write: Write) -> None:
    path = write(
        [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Add", "r c", "y")],
        {"w": floats(4, 4, 1, 1)},
    )
    convolution, elementwise = graph_ops(path)
    assert (convolution.kind, elementwise.kind, elementwise.flops) == ("Conv", "Elementwise", 0)
    assert convolution.bytes == 2 * MAP + 4 * 16
    assert elementwise.bytes == 2 * MAP  # `r` stays inside; `c` is read once


def test_a_strided_grouped_convolution_and_its_transpose_count_each_product_once(write: Write) -> None:
    path = write(
        [
            node("Conv", "x w", "c", group=2, strides=[2, 2], kernel_shape=[2, 2]),
            node("ConvTranspose", "c v", "y", strides=[2, 2]),
        ],
        {"w": floats(6, 2, 2, 2), "v": floats(6, 3, 2, 2)},
    )
    down, up = graph_ops(path)
    assert down.flops == 2 * (6 * 4 * 4) * (2 * 2 * 2)
    assert up.flops == 2 * (6 * 4 * 4) * (3 * 2 * 2)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_counts_by_its_inner_side(write: Write, transposed: int) -> None:
    shape = (5, 3) if transposed else (3, 5)
    path = write([node("Gemm", "x w", "y", transA=transposed)], {"w": floats(5, 7)}, shape=shape)
    (op,) = graph_ops(path)
    assert op.flops == 2 * 3 * 5 * 7


def test_attention_is_one_op_that_never_writes_its_scores(write: Write) -> None:
    path = write(
        [
            node("Transpose", "x", "t", perm=[0, 1, 3, 2]),
            node("Mul", "x scale", "q"),
            node("MatMul", "q t", "scores"),
            node("Softmax", "scores", "shares", axis=-1),
            node("MatMul", "shares x", "o"),
            node("Relu", "o", "y"),
        ],
        {"scale": floats()},
        shape=(2, 3, 100, 8),
    )
    scaled, attention = graph_ops(path)
    assert (scaled.kind, attention.kind) == ("Elementwise", "Attention")
    assert attention.nodes == ("scores", "shares", "o", "y")
    assert attention.flops == 2 * 2 * (2 * 3 * 100 * 100 * 8)
    values = 2 * 3 * 100 * 8
    assert attention.bytes == 4 * 3 * values  # queries; keys and values are one tensor; the result


def test_a_softmax_of_its_own_is_a_pass_over_its_tensor(write: Write) -> None:
    (op,) = graph_ops(write([node("Softmax", "x", "y", axis=1)]))
    assert (op.kind, op.flops, op.bytes) == ("Softmax", 0, 2 * MAP)


def test_the_attention_operation_counts_as_its_parts(write: Write) -> None:
    path = write(
        [node("Attention", "x k v", "y", q_num_heads=2, kv_num_heads=2)],
        {"k": floats(1, 20, 16), "v": floats(1, 20, 16)},
        shape=(1, 10, 16),
        opset=23,
    )
    (op,) = graph_ops(path)
    assert op.flops == 2 * (2 * 10 * 20 * 8) * 2


def test_layout_is_free_and_a_part_counts_as_the_part(write: Write) -> None:
    path = write(
        [
            node("Split", "x", "a b", axis=1, num_outputs=2),
            node("Transpose", "a", "t", perm=[0, 2, 3, 1]),
            node("Reshape", "t flat", "f"),
            node("MatMul", "f w", "y"),
        ],
        {"flat": np.array([64, 2]), "w": floats(2, 5)},
    )
    (op,) = graph_ops(path)
    assert op.bytes == MAP // 2 + 4 * (2 * 5) + 4 * (64 * 5)


def test_parts_are_written_into_their_concatenation(write: Write) -> None:
    path = write(
        [
            node("Conv", "x w", "a"),
            node("Conv", "x w", "b"),
            node("Concat", "a b", "c", axis=1),
            node("Relu", "c", "y"),
        ],
        {"w": floats(4, 4, 1, 1)},
    )
    *convolutions, relu = graph_ops(path)
    assert [op.bytes for op in convolutions] == [2 * MAP + 64] * 2
    assert relu.bytes == 2 * (2 * MAP)


RESIZE = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
DOUBLED = {"scales": np.array([1, 1, 2, 2], np.float32)}


def test_what_is_enlarged_for_elementwise_ops_is_never_written(write: Write) -> None:
    path = write(
        [
            node("Conv", "x w", "small"),
            node("Resize", "small  scales".replace("  ", " none "), "up", **RESIZE),
            node("ConvTranspose", "x v", "large", strides=[2, 2]),
            node("Add", "large up", "y"),
        ],
        {"w": floats(4, 4, 1, 1), "v": floats(4, 4, 2, 2), "none": np.zeros(0, np.float32), **DOUBLED},
    )
    small, large = graph_ops(path)
    assert small.bytes == 2 * MAP + 64
    assert large.nodes == ("large", "y")
    assert large.bytes == MAP + MAP + 4 * MAP + 4 * 64  # `x`, the small map, the result, weights


def test_what_is_enlarged_for_a_convolution_is_written(write: Write) -> None:
    path = write(
        [node("Resize", "x none scales", "up", **RESIZE), node("Conv", "up w", "y")],
        {"w": floats(4, 4, 1, 1), "none": np.zeros(0, np.float32), **DOUBLED},
    )
    resize, convolution = graph_ops(path)
    assert (resize.kind, convolution.kind) == ("Resize", "Conv")
    assert resize.bytes == 5 * MAP + 4 * 4  # and the four scales
    assert convolution.bytes == 8 * MAP + 64


def test_elementwise_ops_before_a_reduction_are_part_of_it(write: Write) -> None:
    path = write([node("Exp", "x", "e"), node("ReduceSum", "e axes", "y")], {"axes": np.array([1])})
    (op,) = graph_ops(path)
    assert (op.kind, op.nodes) == ("ReduceSum", ("e", "y"))
    assert op.bytes == MAP + MAP // 4 + 8


def test_half_precision_moves_half_and_casts_are_free(write: Write) -> None:
    path = write(
        [
            node("Cast", "x", "half", to=TensorProto.FLOAT16),
            node("Conv", "half w", "c"),
            node("Cast", "c", "y", to=TensorProto.FLOAT),
        ],
        {"w": floats(4, 4, 1, 1).astype(np.float16)},
    )
    (op,) = graph_ops(path)
    # Read as it lies (fp32), written as the fused cast makes it (fp32), weights in half.
    assert op.bytes == 2 * MAP + 2 * 16
    assert op.precision == "fp32"


def test_weights_count_in_the_format_that_they_are_cast_to(write: Write) -> None:
    path = write(
        [node("Cast", "h", "w", to=TensorProto.FLOAT), node("Conv", "x w", "y")],
        {"h": floats(4, 4, 1, 1).astype(np.float16)},
    )
    (op,) = graph_ops(path)
    assert op.bytes == 2 * MAP + 4 * 16


def test_between_quantised_tensors_values_have_eight_bits(write: Write) -> None:
    path = write(
        [
            node("DequantizeLinear", "x s z", "d"),
            node("DequantizeLinear", "wq s z", "w"),
            node("Conv", "d w", "c"),
            node("Relu", "c", "r"),
            node("QuantizeLinear", "r s z", "y"),
        ],
        {"wq": np.ones((4, 4, 1, 1), np.int8), "s": floats(), "z": np.zeros((), np.int8)},
        dtype=TensorProto.INT8,
    )
    (op,) = graph_ops(path)
    assert (op.precision, op.flops) == ("int8", 2 * 256 * 4)
    assert op.other_bytes == 2 * 256 + 16 + 1  # image, result, weights, zero point
    assert op.float_bytes == 4  # the scale


def test_a_graph_for_any_size_is_counted_at_the_size_that_is_asked_for(write: Write) -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape one", "height", axis=0),
        node("Unsqueeze", "height zero", "h"),
        node("Mul", "h two", "h2"),
        node("Concat", "minus h2", "wanted", axis=0),
        node("Reshape", "x wanted", "flat"),
        node("MatMul", "flat w", "y"),
    ]
    weights = {
        "one": np.array(1),
        "zero": np.array([0]),
        "two": np.array([2]),
        "minus": np.array([-1]),
        "w": floats(8, 3),
    }
    path = write(nodes, weights, shape=(1, "height", "width", 2))
    (op,) = graph_ops(path, (4, 6))
    assert op.flops == 2 * 6 * 8 * 3  # 48 values as (6, 8)
    with pytest.raises(DataError, match="images of any size"):
        graph_ops(path)


def test_a_static_graph_refuses_another_size(write: Write) -> None:
    path = write([node("Relu", "x", "y")], shape=(1, 4, 6, 3))
    assert graph_ops(path, (4, 6))
    with pytest.raises(DataError, match=r"4 x 6 pixels .* asked for is 8 x 6"):
        graph_ops(path, (8, 6))


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("NonZero", "x", "n"), node("Transpose", "n", "y")], "size of its result is not fixed"),
        ([node("Mystery", "x", "y", domain="elsewhere")], "domain 'elsewhere'"),
        ([node("Einsum", "x", "y", equation="abcd->abdc")], "Einsum.* cannot be counted"),
    ],
)
def test_what_cannot_be_counted_is_refused(write: Write, nodes: list[NodeProto], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        graph_ops(write(nodes))


def test_a_branch_is_refused(write: Write) -> None:
    one = helper.make_graph(
        [node("Constant", "", "c", value_float=1.0)],
        "b",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [])],
    )
    path = write(
        [helper.make_node("If", ["yes"], ["i"], then_branch=one, else_branch=one), node("Add", "x i", "y")],
        {"yes": np.array(True)},
    )
    with pytest.raises(DataError, match="depends on values"):
        graph_ops(path)


@pytest.mark.parametrize("content", [b"", b"no graph at all"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(DataError, match="ONNX graph"):
        graph_ops(tmp_path / "bad.onnx")


def any_size_graph(model: Any, choice: PlanChoice, path: Path, traced: tuple[int, int]) -> Path:
    """The graph of a network for any image size, as a bundle has it."""
    graph = DeployGraph.for_any_size(model, choice, (127.5,) * 3, (60.0,) * 3)
    sides = {1: "height", 2: "width"}
    inputs = {"image": torch.zeros((1, *traced, 3), dtype=torch.uint8)}
    names = ("labels", "confidence")
    model = trace(graph, inputs, names, opset=20, any_size=dict.fromkeys(("image", *names), sides))
    onnx.save(model, path)
    return path


NARROW = {"decoder_channels": 16, "embed_channels": 16, "attention_channels": 16, "detail_crop": (64, 64)}


@pytest.mark.parametrize(
    ("preset", "overrides", "plan", "attentions"),
    [("hrda_lite", TINY, "tiles", 0), ("hrda_lite", TINY, "context", 0), ("hrda_mitb0", NARROW, "tiles", 16)],
)
def test_flops_of_tiny_networks_are_those_of_torch(
    preset: str, overrides: dict[str, Any], plan: str, attentions: int, tmp_path: Path
) -> None:
    model = create_model(preset, 19, **overrides).eval()
    choice = PlanChoice(plan, (2, 2) if plan == "tiles" else None)
    path = any_size_graph(model, choice, tmp_path / "tiny.onnx", (128, 192))
    for size in ((128, 192), (256, 128)):
        ops = graph_ops(path, size)
        assert sum(op.flops for op in ops) == pytest.approx(plan_flops(model, choice, *size).total, rel=0.01)
    assert sum(op.kind == "Attention" for op in ops) == attentions
    assert all(op.bytes > 0 for op in ops)


ROOFLINE_FPS = {"H200": 420, "RTX 4090": 92, "AGX Orin 64GB": 21, "Orin Nano Super": 9}
"""Of B0, plan `tiles`, exact folds, 16 bits; rounded, and by rules of fusion that differ in details."""


def test_the_cost_model_of_the_design_comes_out(tmp_path: Path) -> None:
    """MiT-B0 at full width, 1080 x 1920 padded to 1088 x 1920: traced small, counted large."""
    torch.manual_seed(0)
    model = folded(create_model("hrda_mitb0", 19).eval())
    context = graph_ops(any_size_graph(model, PlanChoice("context"), tmp_path / "b0.onnx", (64, 128)), SIZE)
    assert sum(op.flops for op in context) / 1e9 == pytest.approx(226, rel=0.01)
    tiles = graph_ops(any_size_graph(model, PlanChoice("tiles", (2, 3)), tmp_path / "b0.onnx", (64, 192)), SIZE)
    assert sum(op.flops for op in tiles) / 1e9 == pytest.approx(1121, rel=0.01)
    found = {device.name: roofline(tiles, device, "fp16").rate for device in DEVICES}
    for name, expected in ROOFLINE_FPS.items():
        assert abs(found[name] - expected) <= 0.5 + 0.05 * expected, name
