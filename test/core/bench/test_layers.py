"""Layers as runtimes name them, joined with the op list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hrda_core.bench.graph_ops import GraphOp, graph_ops
from hrda_core.bench.layers import Layer, join_layers, onnxruntime_layers
from hrda_core.bench.roofline import Device
from hrda_core.errors import BackendError

pytest.importorskip("onnxruntime")

TOY = Device("toy", {"fp32": 1e9}, 1e9, "made up")


def op(name: str, flops: int, results: tuple[str, ...] = ()) -> GraphOp:
    return GraphOp(name, "Conv", flops, "fp32", 1000, 4000, 0, (name, f"{name}/Relu"), results)


OPS = [op("/a/Conv", 8_000_000, ("/a/out",)), op("/b/Conv", 2_000_000), op("/c/MatMul", 1_000_000)]


@pytest.mark.parametrize(
    "name",
    [
        "/a/Conv",
        "/a/Conv/Relu",
        "/a/out_nchwc",
        "/a/Conv_token_12",
        "/a/Conv/MatMulAddFusion",
        "/a/Conv/MatMulScaleFusion/",
        "/a/Conv + /a/Conv/Relu",
        "{ForeignNode[/a/Conv.../a/Conv/Relu]}",
        "__myl_Fuse (/a/Conv)",
    ],
)
def test_a_layer_finds_its_op_under_the_names_that_runtimes_give(name: str) -> None:
    (row,) = join_layers([Layer(name, "Conv", 0.016)], OPS, TOY)
    assert (row.name, row.flops, row.bytes) == ("/a/Conv", 8_000_000, 4000)
    values = row.to_dict()
    assert values["ms"] == 16
    assert values["gflops"] == 0.5
    assert values["roofline_share"] == 0.5


def test_times_of_one_op_are_added_and_the_slowest_comes_first() -> None:
    layers = [Layer("/b/Conv", "Conv", 0.001), Layer("/a/Conv", "Conv", 0.002), Layer("/b/Conv/Relu", "Relu", 0.004)]
    rows = join_layers(layers, OPS)
    assert [(row.name, round(row.seconds, 6)) for row in rows] == [("/b/Conv", 0.005), ("/a/Conv", 0.002)]


def test_ops_that_share_a_layer_are_one_row_and_count_once() -> None:
    layers = [
        Layer("/a/Conv", "Conv", 0.001),
        Layer("/b/Conv", "Conv", 0.001),
        Layer("/a/Conv/Relu + /b/Conv", "Conv", 0.001),
        Layer("/c/MatMul", "Gemm", 0.001),
    ]
    rows = join_layers(layers, OPS)
    assert [(row.name, row.flops) for row in rows] == [("/a/Conv", 10_000_000), ("/c/MatMul", 1_000_000)]
    assert rows[0].seconds == pytest.approx(0.003)


def test_time_without_an_op_is_listed_by_kind_and_never_as_work() -> None:
    layers = [Layer("Reorder_1", "Reorder", 0.001), Layer("Reorder_2", "Reorder", 0.002), Layer("idle", "Copy", 0.0)]
    (row,) = join_layers(layers, OPS, TOY)
    assert (row.name, row.seconds, row.flops, row.bound) == ("(Reorder, no op)", 0.003, 0, 0.0)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Unnamed nodes, as bundles have them: bytes, convolution and Relu, sum."""
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceSum", ["r"], ["y"]),
    ]
    made = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 48, 64, 3])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.ones((32, 3, 3, 3), np.float32), "w")],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "g.onnx")
    return tmp_path / "g.onnx"


def test_the_profile_of_onnx_runtime_leads_to_the_ops(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(graph.parent)
    layers = onnxruntime_layers(graph, np.zeros((1, 48, 64, 3), np.uint8), threads=1)
    rows = {row.kind: row for row in join_layers(layers, graph_ops(graph))}
    assert rows["Conv"].flops == 2 * 32 * 48 * 64 * 27
    assert rows["Conv"].seconds > 0
    assert rows["ReduceSum"].flops == 0
    assert sum(row.seconds for row in rows.values()) == pytest.approx(sum(layer.seconds for layer in layers))
    assert [path.name for path in graph.parent.iterdir()] == ["g.onnx"]


def test_a_graph_that_does_not_run_is_one_sentence(graph: Path) -> None:
    with pytest.raises(BackendError, match="cannot profile"):
        onnxruntime_layers(graph, np.zeros((1, 1, 1, 3), np.uint8), threads=1)
