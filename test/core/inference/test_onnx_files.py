"""Weights outside an ONNX file: found without the onnx package, and refused outside the model's folder."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hrda_core.errors import BundleError
from hrda_core.inference.onnx_files import external_files, onnx_sha256, onnx_versions


def _external(name: str, location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    onnx.external_data_helper.set_external_data(tensor, location, offset=0, length=16)
    tensor.ClearField("raw_data")
    return tensor


def _subgraph(tensor: TensorProto) -> onnx.GraphProto:
    node = helper.make_node("Constant", [], ["inner"], value=tensor)
    return helper.make_graph([node], "inner", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [4])])


def _write(path: Path, tensor: TensorProto, where: str) -> Path:
    """A model that keeps `tensor` in one of the places where the format allows it. The checker is not asked."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])
    nodes, initializers, sparse = [helper.make_node("Identity", ["x"], ["y"])], [], []
    if where == "initializer":
        initializers = [tensor]
    elif where == "constant":
        nodes += [helper.make_node("Constant", [], ["c"], value=tensor)]
    elif where == "subgraph":
        nodes += [helper.make_node("If", ["x"], ["c"], then_branch=_subgraph(tensor), else_branch=_subgraph(tensor))]
    elif where == "sparse":
        sparse = [onnx.SparseTensorProto(values=tensor, dims=[4])]
    graph = helper.make_graph(nodes, "g", [x], [y], initializers, sparse_initializer=sparse)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


PLACES = ("initializer", "constant", "subgraph", "sparse")


@pytest.mark.parametrize("where", PLACES)
def test_weights_beside_the_graph_are_found_wherever_the_format_allows_them(tmp_path: Path, where: str) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    path = _write(tmp_path / "m.onnx", _external("w", "weights.bin"), where)
    assert external_files(path) == (tmp_path / "weights.bin",)


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin", "{absolute}", "a\0b"])
def test_f12_weights_outside_the_folder_of_the_graph_are_refused(tmp_path: Path, where: str, location: str) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(16))
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    path = _write(folder / "m.onnx", _external("w", location.format(absolute=secret)), where)
    with pytest.raises(BundleError, match="outside its own folder"):
        external_files(path)


@pytest.mark.parametrize("location", ["a" * 5000, "a/" * 100_000 + "b"])
def test_f12_weights_whose_name_no_disk_takes_are_missing_and_named_in_short(tmp_path: Path, location: str) -> None:
    path = _write(tmp_path / "m.onnx", _external("w", location), "initializer")
    with pytest.raises(BundleError, match="which is missing") as raised:
        external_files(path)
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize("where", PLACES)
def test_f12_weights_at_an_address_in_memory_are_refused_although_a_file_has_that_name(
    tmp_path: Path, where: str
) -> None:
    location = "*/_ORT_MEM_ADDR_/*"  # ONNX Runtime's and OpenVINO's word for it
    (tmp_path / location).parent.mkdir(parents=True)
    (tmp_path / location).write_bytes(bytes(16))
    path = _write(tmp_path / "m.onnx", _external("w", location), where)
    with pytest.raises(BundleError, match="keeps weights at an address in memory"):
        external_files(path)


@pytest.mark.parametrize("opsets", [[1 << 62], [18, 1 << 62], [1 << 62, 18]])
def test_a_graph_that_asks_for_an_operator_set_beyond_all_is_refused(tmp_path: Path, opsets: list[int]) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    model = helper.make_model(
        helper.make_graph([], "g", [x], [x]), opset_imports=[helper.make_opsetid("", version) for version in opsets]
    )
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=f"asks for operator set {1 << 62}"):  # OpenVINO would count up to it
        external_files(tmp_path / "m.onnx")


@pytest.mark.parametrize(("depth", "is_refused"), [(4, False), (20, True)])
def test_a_graph_with_many_branches_in_each_other_is_refused(tmp_path: Path, depth: int, is_refused: bool) -> None:
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["c"])], "innermost", [], [])
    for _ in range(depth):  # each doubles what OpenVINO does
        graph = helper.make_graph(
            [helper.make_node("If", ["x"], ["c"], then_branch=graph, else_branch=helper.make_graph([], "e", [], []))],
            "g",
            [],
            [],
        )
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(BundleError, match="has branches in branches") if is_refused else nullcontext():
        external_files(tmp_path / "m.onnx")


def _repeating(operator: str) -> onnx.NodeProto:
    """A node with a graph of its own that it runs again and again."""
    body = helper.make_graph([], "body", [], [])
    return helper.make_node(operator, ["x"], ["c"], body=body)


@pytest.mark.parametrize("operator", ["Loop", "Scan", "BeamSearch"])
@pytest.mark.parametrize("where", ["graph", "branch"])
def test_a_graph_that_repeats_a_part_of_itself_is_refused(tmp_path: Path, operator: str, where: str) -> None:
    nodes = [_repeating(operator)]
    if where == "branch":
        branch = helper.make_graph(nodes, "inner", [], [])
        nodes = [helper.make_node("If", ["x"], ["c"], then_branch=branch, else_branch=branch)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    model = helper.make_model(helper.make_graph(nodes, "g", [x], []))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=rf"repeats a part of itself \(operator '{operator}'\)"):
        external_files(tmp_path / "m.onnx")


def test_a_graph_with_functions_of_its_own_is_refused(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    calls = [helper.make_node("F0", [name], [result], domain="own") for name, result in (("x", "b"), ("b", "y"))]
    functions = [
        helper.make_function("own", "F0", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], opsets[:1]),
        helper.make_function("own", "F1", ["x"], ["y"], calls, opsets),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("F1", ["x"], ["y"], domain="own")], "g", [x], [])
    model = helper.make_model(graph, functions=functions, opset_imports=opsets)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"repeats a part of itself \(a function\)"):
        external_files(tmp_path / "m.onnx")


def test_a_graph_that_is_cut_off_while_it_is_read_does_not_end_the_process(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    path = _write(tmp_path / "m.onnx", _external("w", "weights.bin"), "initializer")
    code = (
        "import sys; from pathlib import Path; from hrda_core.inference import onnx_files; look = onnx_files._look; "
        "path = Path(sys.argv[1]); onnx_files._look = lambda data: (path.write_bytes(b''), look(data))[1]; "
        "sys.exit(len(onnx_files.external_files(path)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 1


def test_a_graph_and_weights_that_are_links_are_read_through_them(tmp_path: Path) -> None:
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    installed.mkdir()
    (source / "weights.bin").write_bytes(bytes(16))
    _write(source / "m.onnx", _external("w", "weights.bin"), "initializer")
    for name in ("m.onnx", "weights.bin"):
        (installed / name).symlink_to(source / name)
    assert external_files(installed / "m.onnx") == (installed / "weights.bin",)
    assert onnx_sha256(installed / "m.onnx") == onnx_sha256(source / "m.onnx")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.onnx", _external("w", "weights.bin"), "initializer")
    with pytest.raises(BundleError, match=r"'weights\.bin', which is missing"):
        external_files(path)


def test_a_graph_in_one_file_needs_no_other(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.arange(1000, dtype=np.float32), "w")
    assert external_files(_write(tmp_path / "m.onnx", tensor, "initializer")) == ()


def test_the_hash_covers_the_weights_outside_the_file(tmp_path: Path) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(bytes(16))
    path = _write(tmp_path / "m.onnx", _external("w", "weights.bin"), "initializer")
    first = onnx_sha256(path)
    assert onnx_sha256(path) == first
    weights.write_bytes(bytes(15) + b"x")
    assert onnx_sha256(path) != first


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x3a\xff\xff\xff\xff\x0f"])
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="not an ONNX graph"):
        external_files(path)


def test_a_graph_that_breaks_off_is_refused_or_names_no_file(tmp_path: Path, tiny_bundle: Path) -> None:
    whole, path = (tiny_bundle / "model.onnx").read_bytes(), tmp_path / "m.onnx"
    refused = 0
    lengths = range(1, len(whole), 7)
    for length in lengths:
        path.write_bytes(whole[:length])
        try:
            assert external_files(path) == ()
        except BundleError:
            refused += 1
    assert refused > 0.9 * len(lengths)


@pytest.mark.parametrize(("opset", "ir_version"), [(17, 8), (20, 9), (21, 10)])
def test_the_versions_of_a_graph_are_those_that_onnx_wrote(tmp_path: Path, opset: int, ir_version: int) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["x2"])], "g", [x], [])
    opsets = [
        helper.make_opsetid("com.microsoft", 1),
        helper.make_opsetid("", opset),
        helper.make_opsetid("ai.onnx.ml", 3),
    ]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert onnx_versions(tmp_path / "m.onnx") == (opset, ir_version)


def test_the_shipped_graphs_are_read_by_the_oldest_onnxruntime_of_setup_py(repository: Path) -> None:
    paths = sorted((repository / "models" / "hrda_lite").glob("*.onnx"))
    assert [path.name for path in paths] == ["context.onnx", "model.onnx"]
    assert [onnx_versions(path) for path in paths] == [(17, 8)] * 2
