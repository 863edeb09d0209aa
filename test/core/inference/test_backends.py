"""The choice of the back end, what it says, and ONNX Runtime, on a machine without a GPU."""

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
from answering_graphs import network_graph
from onnx import TensorProto, helper, numpy_helper
from tiny_bundle import expected_confidence, expected_labels

from hrda_core.errors import BackendError, BundleError, GpuError
from hrda_core.inference.backends import BACKEND_NAMES, BackendInfo, Reason, open_backend
from hrda_core.inference.backends.fallback import FallBackBackend
from hrda_core.inference.backends.onnx_backend import OnnxBackend
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.inference.say import Level, silent
from hrda_core.nvidia_driver import Driver, probe_driver

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 64, 128, 3), np.uint8)


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture
def graph(bundle: Bundle) -> GraphSpec:
    return bundle.graphs["tiles"]


@pytest.fixture
def no_driver() -> str:
    """Why there is no driver here."""
    found = probe_driver()
    if isinstance(found, Driver):
        pytest.skip("there is an NVIDIA driver here")
    return found


def test_auto_says_what_runs_and_why_nothing_faster(bundle: Bundle, graph: GraphSpec, no_driver: str) -> None:
    backend = open_backend("auto", bundle, graph, threads=1)
    cpu = f"onnxruntime {onnxruntime.__version__} CPU, 1 thread"
    assert str(backend.info) == f"{cpu}; no TensorRT engine: {no_driver}"
    assert (backend.info.kind, backend.info.device, backend.info.threads) == ("onnxruntime", "cpu", 1)
    assert backend.info.reasons == (Reason("no TensorRT engine", no_driver),), "the same cause is told once"
    labels, confidence = backend(IMAGE)
    np.testing.assert_array_equal(labels[0], expected_labels(IMAGE[0]))
    np.testing.assert_array_equal(confidence[0], expected_confidence(IMAGE[0]))


def test_auto_does_not_stop_where_it_may_build(bundle: Bundle, graph: GraphSpec, no_driver: str) -> None:
    backend = open_backend("auto", bundle, graph, build_engine=True, on_gpu_failure="stop")
    assert no_driver in backend.info.reasons[0].why
    assert not (bundle.path / "engines").exists()


@pytest.mark.parametrize("name", ["tensorrt", "cuda"])
def test_a_named_gpu_back_end_stops_with_one_sentence_where_there_is_no_gpu(
    bundle: Bundle, graph: GraphSpec, no_driver: str, name: str
) -> None:
    with pytest.raises(GpuError) as raised:
        open_backend(name, bundle, graph)
    assert str(raised.value) == f"back end '{name}' cannot run: {no_driver}; use backend 'auto' or 'onnx' here"


@pytest.mark.parametrize("name", ["tensorrt", "cuda"])
def test_a_named_gpu_back_end_falls_back_where_that_was_asked_for_and_says_so(
    bundle: Bundle, graph: GraphSpec, no_driver: str, name: str
) -> None:
    said: list[tuple[object, ...]] = []
    backend = open_backend(name, bundle, graph, on_gpu_failure="fall_back", say=lambda *line: said.append(line))
    assert backend.info.reasons == (Reason(f"not '{name}'", no_driver),)
    sentence = f"back end '{name}' cannot run: {no_driver}; going on with ONNX Runtime on the CPU"
    assert said == [(sentence, Level.WARNING)]
    np.testing.assert_array_equal(backend(IMAGE)[0][0], expected_labels(IMAGE[0]))


def test_unknown_names_are_told_with_the_known_ones(bundle: Bundle, graph: GraphSpec) -> None:
    with pytest.raises(BackendError, match=f"'vulkan' is not known; choose one of {', '.join(BACKEND_NAMES)}"):
        open_backend("vulkan", bundle, graph)
    with pytest.raises(BackendError, match="must be fall_back or stop, not 'retry'"):
        open_backend("auto", bundle, graph, on_gpu_failure="retry")


def test_the_choice_loads_neither_torch_nor_tensorrt_nor_cuda(repository: Path, tiny_bundle: Path) -> None:
    code = (
        "import sys\n"
        "from hrda_core.inference.bundle import Bundle\n"
        "from hrda_core.inference.backends import open_backend\n"
        f"bundle = Bundle.open({str(tiny_bundle)!r})\n"
        "open_backend('auto', bundle, bundle.graphs['tiles'])\n"
        "print([name for name in ('torch', 'tensorrt', 'cuda', 'onnx') if name in sys.modules])\n"
    )
    if isinstance(probe_driver(), Driver):
        pytest.skip("there is an NVIDIA driver here: TensorRT is asked for")
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, env=environment, check=True
    )
    assert done.stdout.strip() == "[]"


class _FailsAtTheSecondImage:
    """A back end whose GPU fails while it runs."""

    info = BackendInfo("tensorrt", "0", "cuda", "a GPU")

    def __init__(self) -> None:
        self.images, self.closed = 0, False

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.images += 1
        if image.shape != IMAGE.shape:
            raise BackendError("another size")
        if self.images > 1:
            raise GpuError("the GPU failed while running the engine: cudaErrorLaunchFailure")
        return image[..., 2], image[..., 1]

    def close(self) -> None:
        self.closed = True


def test_when_the_gpu_fails_on_the_way_the_same_frame_is_run_on_the_cpu(bundle: Bundle, graph: GraphSpec) -> None:
    gpu, said = _FailsAtTheSecondImage(), []
    cpu = OnnxBackend(bundle.file(graph.file), threads=1)
    backend = FallBackBackend(gpu, lambda: cpu, lambda *line: said.append(line))
    np.testing.assert_array_equal(backend(IMAGE)[0], IMAGE[..., 2])
    assert (backend.info.device, backend.info.gpu) == ("cuda", "a GPU")
    for _ in range(2):
        np.testing.assert_array_equal(backend(IMAGE)[0][0], expected_labels(IMAGE[0]))
    assert gpu.images == 2
    assert gpu.closed
    assert [level for _, level in said] == [Level.WARNING]
    assert (backend.info.kind, backend.info.device) == ("onnxruntime", "cpu")
    assert "CPU, 1 thread; the GPU failed: the GPU failed while running the engine" in str(backend.info)


def test_a_wrong_input_is_no_failure_of_the_gpu(bundle: Bundle, graph: GraphSpec) -> None:
    gpu = _FailsAtTheSecondImage()
    backend = FallBackBackend(gpu, lambda: OnnxBackend(bundle.file(graph.file)), silent)
    with pytest.raises(BackendError, match="another size"):
        backend(IMAGE[:, :32])
    assert not gpu.closed


def test_cuda_without_onnxruntime_gpu_is_told(bundle: Bundle, graph: GraphSpec, monkeypatch: Any) -> None:
    """The driver is said to be there: what is tested is the sentence of the onnxruntime that is installed."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime can use NVIDIA GPUs")
    monkeypatch.setattr("hrda_core.inference.backends.onnx_backend.require_driver", lambda: None)
    with pytest.raises(BackendError, match="cannot use NVIDIA GPUs; install onnxruntime-gpu in its place"):
        OnnxBackend(bundle.file(graph.file), device="cuda")


def _graph_with_state(path: Path) -> Path:
    """labels = red, confidence = green, next = previous + 1."""
    nodes = [
        helper.make_node("Cast", ["image"], ["ints"], to=TensorProto.INT32),
        helper.make_node("Gather", ["ints", "zero"], ["red"], axis=3),
        helper.make_node("Gather", ["ints", "one"], ["green"], axis=3),
        helper.make_node("Cast", ["red"], ["labels"], to=TensorProto.UINT8),
        helper.make_node("Cast", ["green"], ["confidence"], to=TensorProto.UINT8),
        helper.make_node("Add", ["previous", "step"], ["next"]),
    ]
    entries = {
        "image": (TensorProto.UINT8, [1, 64, 128, 3]),
        "previous": (TensorProto.FLOAT, [2]),
        "labels": (TensorProto.UINT8, [1, 64, 128]),
        "confidence": (TensorProto.UINT8, [1, 64, 128]),
        "next": (TensorProto.FLOAT, [2]),
    }
    infos = [helper.make_tensor_value_info(name, *entry) for name, entry in entries.items()]
    constants = {"zero": np.array(0), "one": np.array(1), "step": np.ones(2, np.float32)}
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "state", infos[:2], infos[2:], weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_graph_with_further_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has the inputs .*previous.* expected"):
        OnnxBackend(_graph_with_state(tmp_path / "state.onnx"), threads=1)


def test_a_sentence_on_ten_thousand_inputs_is_no_longer_than_others(tmp_path: Path) -> None:
    model = onnx.load(_graph_with_state(tmp_path / "state.onnx"))
    names = [f"further_{number}" for number in range(10_000)]
    model.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in names)
    (tmp_path / "many.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="and 9982 more") as raised:
        OnnxBackend(tmp_path / "many.onnx", threads=1)
    assert len(str(raised.value)) < 2000


def test_a_graph_that_leaves_the_number_of_lengths_open_is_one_for_any_size(tmp_path: Path) -> None:
    model = onnx.load_from_string(network_graph(0.5))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    (tmp_path / "open.onnx").write_bytes(model.SerializeToString())
    backend = OnnxBackend(tmp_path / "open.onnx", threads=1)
    assert not backend.takes_batch
    assert backend(np.zeros((1, 8, 8, 3), np.uint8))[0].shape == (1, 8, 8)


def test_an_image_of_another_size_is_told(bundle: Bundle, graph: GraphSpec) -> None:
    with pytest.raises(BackendError, match=r"ONNX Runtime failed on an image of shape \(1, 64, 64, 4\)"):
        OnnxBackend(bundle.file(graph.file), threads=1)(np.zeros((1, 64, 64, 4), np.uint8))


def test_f12_a_graph_that_reads_outside_its_folder_never_reaches_onnx_runtime(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(8))
    (tmp_path / "bundle").mkdir()
    path = _graph_with_state(tmp_path / "bundle" / "model.onnx")
    model = onnx.load(path)
    (step,) = (weight for weight in model.graph.initializer if weight.name == "step")
    onnx.external_data_helper.set_external_data(step, "../secret.bin", offset=0, length=8)
    step.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"keeps weights in '\.\./secret\.bin', outside its own folder"):
        OnnxBackend(path)
