"""What is done to a graph before OpenVINO compiles it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hrda_core.errors import BackendError, BundleError
from hrda_core.inference.openvino.reading import read_graph, with_quick_argmax

openvino = pytest.importorskip(
    "openvino", reason="the package openvino is not installed here: setup.py, extra openvino"
)


@pytest.fixture(scope="module")
def core() -> Any:
    return openvino.Core()


def _graph(*nodes: onnx.NodeProto, **changes: Any) -> bytes:
    """From `x` float (1, 5, 8, 9) to `labels` uint8 (1, 8, 9)."""
    values = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5, 8, 9]),
        helper.make_tensor_value_info("labels", TensorProto.UINT8, changes.get("shape", [1, 8, 9])),
    ]
    graph = helper.make_graph(nodes, "argmax", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def _argmax(axis: int = 1) -> list[onnx.NodeProto]:
    return [
        helper.make_node("ArgMax", ["x"], ["index"], axis=axis, keepdims=0),
        helper.make_node("Cast", ["index"], ["labels"], to=TensorProto.UINT8),
    ]


def test_argmax_gives_the_classes_of_onnx_runtime_the_first_one_where_several_are_equal(core: Any) -> None:
    data = _graph(*_argmax())
    model = core.read_model(data)
    assert with_quick_argmax(model) == 1
    assert "TopK" not in [node.get_type_name() for node in model.get_ops()]
    request = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()
    values = np.random.default_rng(0).integers(-2, 3, (1, 5, 8, 9)).astype(np.float32)
    found = request.infer({"x": values})["labels"].copy()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(found, session.run(None, {"x": values})[0])
    assert request.infer({"x": np.full_like(values, np.nan)})["labels"].max() < 5, "a class all the same"


def test_an_argmax_over_something_else_stays_as_it_is(core: Any) -> None:
    model = core.read_model(_graph(*_argmax(axis=2), shape=[1, 5, 9]))
    assert with_quick_argmax(model) == 0


def test_a_graph_of_one_size_has_no_shapes_left_to_compute(core: Any, tiny_bundle: Path) -> None:
    model = read_graph(core, tiny_bundle / "model.onnx", (64, 128))
    assert [list(output.get_shape()) for output in model.outputs] == [[1, 64, 128]] * 2
    shipped = Path(__file__).resolve().parents[4] / "models" / "hrda_lite" / "context.onnx"
    any_size, one_size = (read_graph(core, shipped, size) for size in (None, (128, 192)))
    computed = [[node.get_type_name() for node in model.get_ops()].count("ShapeOf") for model in (any_size, one_size)]
    assert computed[0] > 0
    assert computed[1] == 0


def test_the_weights_of_a_graph_in_int8_stay_integers(core: Any, tmp_path: Path) -> None:
    make, weights = helper.make_node, np.arange(-9, 9, dtype=np.int8).reshape(2, 3, 3, 1)
    constants = {"w": weights, "scale": np.float32(0.1), "axis": np.array([1])}
    nodes = [
        make("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        make("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        make("DequantizeLinear", ["w", "scale"], ["weights"]),
        make("Conv", ["planes", "weights"], ["logits"], pads=[1, 0, 1, 0]),
        make("ArgMax", ["logits"], ["winner"], axis=1, keepdims=0),
        make("Cast", ["winner"], ["labels"], to=TensorProto.UINT8),
        make("Cast", ["winner"], ["confidence"], to=TensorProto.UINT8),
    ]
    path = _write(tmp_path, nodes, (64, 64), {name: np.asarray(value) for name, value in constants.items()})
    model = read_graph(core, path, (64, 64))
    kinds = {node.get_element_type() for node in model.get_ops() if node.get_type_name() == "Constant"}
    assert openvino.Type.i8 in kinds


def _write(
    folder: Path, nodes: list[onnx.NodeProto], sides: tuple[Any, Any], constants: dict[str, np.ndarray] | None = None
) -> Path:
    """A graph of a bundle: `image` to `labels` and `confidence`."""
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, *sides, 3])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.UINT8, [1, *sides]) for name in ("labels", "confidence")]
    weights = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("of.us", 1)]
    path = folder / "g.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    return path


def test_a_graph_that_openvino_cannot_read_is_refused_in_one_sentence(core: Any, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Unheard", ["image"], ["labels"], domain="of.us"),
        helper.make_node("Identity", ["labels"], ["confidence"]),
    ]
    path = _write(tmp_path, nodes, ("h", "w"))
    with pytest.raises(BackendError) as raised:
        read_graph(core, path, None)
    assert str(raised.value).startswith(
        f"OpenVINO {openvino.__version__.partition('-')[0]} cannot read graph '{path}' ("
    )
    assert "Unheard" in str(raised.value)
    assert str(raised.value).endswith("run the bundle with backend 'onnx'")
    assert "\n" not in str(raised.value)


def test_a_graph_with_other_inputs_is_no_graph_of_a_bundle(core: Any, tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    path.write_bytes(_graph(*_argmax()))
    with pytest.raises(BundleError, match=r"has the inputs x \(f32\) and the outputs labels, expected"):
        read_graph(core, path, None)


def test_an_error_of_any_kind_in_a_graph_is_one_sentence(core: Any, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Div", ["seven", "nothing"], ["never"]),  # a ValueError, when it becomes a constant
        helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.INT32),
        helper.make_node("Add", ["numbers", "never"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["labels"], to=TensorProto.UINT8),
        helper.make_node("Identity", ["labels"], ["confidence"]),
    ]
    constants = {name: np.array(value, np.int32) for name, value in {"seven": 7, "nothing": 0}.items()}
    path = _write(tmp_path, nodes, ("h", "w"), constants)
    with pytest.raises(BackendError, match=r"cannot read graph '.*' \(integer division by zero\); run the bundle with"):
        read_graph(core, path, None)


@pytest.mark.parametrize(
    "code",
    [
        "from hrda_core.inference.openvino.reading import require_openvino; require_openvino().Core()",
        "import sys; from hrda_core.inference import Predictor; Predictor(sys.argv[1], 'auto', threads=1)",
    ],
    ids=["asked for", "by a back end that is chosen"],
)
def test_openvino_is_imported_without_what_reports_its_use(tmp_path: Path, tiny_bundle: Path, code: str) -> None:
    (tmp_path / "intel" / "openvino_ga_cid").mkdir(parents=True)  # its id, damaged
    environment = {**os.environ, "HOME": str(tmp_path), "HRDA_AUTO": "openvino,onnx", "HRDA_CACHE": str(tmp_path / "c")}
    subprocess.run([sys.executable, "-c", code, str(tiny_bundle)], env=environment, check=True, timeout=60)
    assert [path.name for path in (tmp_path / "intel").iterdir()] == ["openvino_ga_cid"]
