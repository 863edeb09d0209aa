"""Divisions of whole numbers that would end the process are refused before a loader sees the graph; others are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hrda_core.errors import BundleError
from hrda_core.inference.onnx_divisions import unsafe_divisions
from hrda_core.inference.onnx_files import external_files

X = helper.make_tensor_value_info("x", TensorProto.INT32, [2])
F = helper.make_tensor_value_info("f", TensorProto.FLOAT, [2])
Y = helper.make_tensor_value_info("y", TensorProto.INT32, [2])


def _bytes(*nodes: onnx.NodeProto, **constants: Any) -> bytes:
    held = [
        value if isinstance(value, TensorProto) else numpy_helper.from_array(np.array(value), name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(nodes, "g", [X, F], [Y], held)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString())


def _refused(data: bytes) -> bool:
    return bool(list(unsafe_divisions(data)))


def _div(dividend: str = "x", divisor: str = "d", operator: str = "Div") -> onnx.NodeProto:
    return helper.make_node(operator, [dividend, divisor], ["y"])


@pytest.mark.parametrize("operator", ["Div", "Mod"])
@pytest.mark.parametrize("divisor", [[-1, 2], [0, 1], 0, -1, -3])
def test_a_constant_of_0_or_below_is_refused(operator: str, divisor: Any) -> None:
    assert _refused(_bytes(_div(operator=operator), d=np.array(divisor, np.int32)))


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64])
def test_a_constant_above_0_is_not(kind: Any) -> None:
    assert not _refused(_bytes(_div(), d=np.array([1, 16], kind)))


def test_numbers_that_are_not_written_as_bytes_count_too() -> None:
    for values, refused in (([1, 2], False), ([1, -1], True), ([1, 0], True)):
        tensor = helper.make_tensor("d", TensorProto.INT32, [2], values)
        assert _refused(_bytes(_div(), d=tensor)) is refused
    wraps = TensorProto(name="d", data_type=TensorProto.INT32, dims=[1], int64_data=[0xFFFF_FFFF])
    assert _refused(_bytes(_div(), d=wraps)), "in 32 bits that is -1"


@pytest.mark.parametrize(
    "before",
    [
        [helper.make_node("Neg", ["x"], ["d"])],
        [helper.make_node("Cast", ["f"], ["d"], to=TensorProto.INT32)],
        [helper.make_node("Shape", ["f"], ["d"])],
        [helper.make_node("ConstantOfShape", ["x"], ["d"], value=numpy_helper.from_array(np.array([3], np.int32)))],
        [helper.make_node("Constant", [], ["c"], value_int=-1), helper.make_node("Identity", ["c"], ["d"])],
        [helper.make_node("Other", ["f"], ["d"], domain="elsewhere")],
        [],
    ],
    ids=["computed", "cast", "shape", "of a shape", "behind another", "of another library", "from nowhere"],
)
def test_what_is_no_constant_is_refused(before: list[onnx.NodeProto]) -> None:
    assert _refused(_bytes(*before, _div("q")))
    assert _refused(_bytes(_div("q"), *reversed(before))), "in any order of the nodes"


def test_numbers_with_a_point_have_an_answer_to_all() -> None:
    assert not _refused(_bytes(_div("f", "f")))
    assert not _refused(_bytes(helper.make_node("Cast", ["x"], ["c"], to=TensorProto.FLOAT16), _div("c", "d")))
    norm = helper.make_node("ReduceL2", ["f"], ["n"]), helper.make_node("Max", ["n", "small"], ["d"])
    assert not _refused(_bytes(*norm, _div("q", "d"), small=np.float32(1e-6)))


def test_a_constant_that_is_given_twice_is_none() -> None:
    good, bad = (numpy_helper.from_array(np.array(value, np.int32), "d") for value in (1, -1))
    for pair in ((good, bad), (bad, good)):
        graph = helper.make_graph([_div()], "g", [X], [Y], pair)
        assert _refused(helper.make_model(graph).SerializeToString())


def test_a_branch_is_looked_into_and_knows_what_is_around_it() -> None:
    branch = helper.make_graph([_div()], "b", [], [Y])
    node = helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch)
    assert not _refused(_bytes(node, d=np.int32(2)))
    assert _refused(_bytes(node, d=np.int32(-1)))


def test_the_refusal_says_what_the_graph_does(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(_bytes(_div(), d=np.int32(-1)))
    with pytest.raises(BundleError, match=r"divides whole numbers by what is no constant above 0 \('y'\), as no graph"):
        external_files(tmp_path / "m.onnx")


def test_graphs_of_ours_are_taken(repository: Path, tiny_bundle: Path) -> None:
    for bundle in (repository / "models" / "hrda_lite", tiny_bundle):
        for graph in bundle.glob("*.onnx"):
            assert external_files(graph) == ()
