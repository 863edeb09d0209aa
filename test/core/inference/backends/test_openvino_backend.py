"""OpenVINO as a back end: the masks of ONNX Runtime, kept compiled models, and its sentences where it fails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import expected_confidence, expected_labels

from hrda_core.errors import BackendError, MissingPackageError
from hrda_core.inference import Bundle, Predictor
from hrda_core.inference.backends import Reason, open_backend
from hrda_core.inference.backends.fallback import FallBackBackend
from hrda_core.inference.backends.onnx_backend import OnnxBackend
from hrda_core.inference.backends.openvino_backend import OpenVinoBackend
from hrda_core.inference.bundle import GraphSpec
from hrda_core.inference.made_image import golden_image
from hrda_core.inference.openvino import compiler
from hrda_core.inference.openvino.options import OpenVinoOptions
from hrda_core.inference.say import Level

openvino = pytest.importorskip(
    "openvino", reason="the package openvino is not installed here: setup.py, extra openvino"
)

VERSION = openvino.__version__.partition("-")[0]
SHIPPED = Path(__file__).resolve().parents[4] / "models" / "hrda_lite"


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openvino_cache")


@pytest.fixture
def cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that the tests of this file share, since compiling takes time."""
    monkeypatch.setenv("HRDA_CACHE", str(shared_cache))
    return shared_cache / "openvino"


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return Bundle.open(tiny_bundle)


@pytest.fixture
def graph(bundle: Bundle) -> GraphSpec:
    return bundle.graphs["tiles"]


@pytest.fixture
def said() -> list[tuple[str, Level]]:
    return []


@pytest.fixture
def say(said: list[tuple[str, Level]]) -> Any:
    return lambda line, level=Level.INFO: said.append((line, level))


def _image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (1, height, width, 3), np.uint8)


@pytest.mark.usefixtures("cache")
def test_masks_are_exact_and_belong_to_the_caller(bundle: Bundle, graph: GraphSpec) -> None:
    backend = open_backend("openvino", bundle, graph, threads=1)
    assert str(backend.info) == f"OpenVINO {VERSION} CPU, 1 thread"
    image = _image(64, 128)
    labels, confidence = backend(image)
    backend(_image(64, 128) // 2)
    np.testing.assert_array_equal(labels[0], expected_labels(image[0]))
    np.testing.assert_array_equal(confidence[0], expected_confidence(image[0]))


@pytest.mark.usefixtures("cache")
def test_many_sizes_end_with_one_compiled_model_for_all(bundle: Bundle, graph: GraphSpec, say: Any, said: Any) -> None:
    backend = open_backend("openvino", bundle, graph, threads=1, say=say)
    for height in range(64, 64 * 8, 64):
        image = _image(height, 64)
        np.testing.assert_array_equal(backend(image)[0][0], expected_labels(image[0]))
    assert [line for line, _ in said] == [
        "images of many sizes come: OpenVINO takes a compiled model for any size, which is slower"
    ]


@pytest.mark.usefixtures("cache")
def test_a_shipped_graph_gives_the_classes_of_onnx_runtime() -> None:
    bundle = Bundle.open(SHIPPED)
    graph = bundle.graphs["context"]
    backend, reference = OpenVinoBackend(bundle, graph, threads=1), OnnxBackend(bundle.file(graph.file))
    image = golden_image(128, 192)
    (labels, confidence), (wanted, sure) = backend(image), reference(image)
    assert (labels == wanted).mean() > 0.999
    assert np.abs(confidence.astype(int) - sure.astype(int)).max() <= 2


@pytest.mark.usefixtures("cache")
def test_a_predictor_runs_images_of_any_size(tiny_bundle: Path) -> None:
    predictor = Predictor(tiny_bundle, "openvino", threads=1)
    rgb = _image(50, 70)[0]
    np.testing.assert_array_equal(predictor(rgb).labels, expected_labels(rgb))
    assert predictor.backend_description == f"OpenVINO {VERSION} CPU, 1 thread"


def _never(*arguments: object, **more: object) -> None:
    raise AssertionError("it was compiled although it is there")


def test_a_compiled_model_is_kept_and_is_compiled_again_where_it_is_damaged_or_of_another_release(
    own_cache: Path, bundle: Bundle, graph: GraphSpec, say: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    OpenVinoBackend(bundle, graph, threads=1)
    (path,) = own_cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(compiler.Compiler, "_compile", _never)
        image = golden_image(128, 192)
        np.testing.assert_array_equal(OpenVinoBackend(bundle, graph, threads=1)(image)[0][0], expected_labels(image[0]))
    path.write_bytes(path.read_bytes()[:-9])
    OpenVinoBackend(bundle, graph, threads=1, say=say)
    assert said == [(f"the compiled model '{path}' is damaged; it is compiled again", Level.INFO)]
    whole = path.read_bytes()
    monkeypatch.setattr(compiler, "__version__", "another release")
    OpenVinoBackend(bundle, graph, threads=1)
    (other,) = own_cache.iterdir()
    assert other != path, "the one of the other release has gone"
    assert len(other.read_bytes()) == len(whole)


def test_a_kept_model_that_gives_other_labels_is_compiled_again(
    own_cache: Path, bundle: Bundle, graph: GraphSpec, say: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # as after the update of a driver that broke something
        _read_another_graph(patch, bundle)
        patch.setattr(compiler, "check_golden", lambda *arguments, **more: 1.0)
        OpenVinoBackend(bundle, graph, threads=1)
    OpenVinoBackend(bundle, graph, threads=1, say=say)
    assert said[0][0].startswith(
        "a compiled model of 'model.onnx' is compiled again: OpenVINO on device CPU gives other labels than ONNX "
    )
    said.clear()
    OpenVinoBackend(bundle, graph, threads=1, say=say)
    assert not said


def _read_another_graph(patch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    read = compiler.read_graph
    patch.setattr(compiler, "read_graph", lambda core, path, size: read(core, bundle.file("context.onnx"), size))


@pytest.mark.usefixtures("own_cache")
def test_wrong_masks_stop_a_named_openvino_or_let_onnx_runtime_run(
    bundle: Bundle, graph: GraphSpec, say: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _read_another_graph(monkeypatch, bundle)
    with pytest.raises(BackendError, match="OpenVINO on device CPU gives other labels than ONNX Runtime") as raised:
        open_backend("openvino", bundle, graph, threads=1)
    backend = open_backend("openvino", bundle, graph, threads=1, on_gpu_failure="fall_back", say=say)
    assert backend.info.reasons == (Reason("not 'openvino'", str(raised.value)),)
    assert said == [
        (f"back end 'openvino' cannot run: {raised.value}; going on with ONNX Runtime on the CPU", Level.WARNING)
    ]
    image = _image(64, 64)
    np.testing.assert_array_equal(backend(image)[0][0], expected_labels(image[0]))


@pytest.mark.usefixtures("cache")
def test_an_openvino_that_fails_while_it_runs_hands_over(
    bundle: Bundle, graph: GraphSpec, say: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends = [
        open_backend("openvino", bundle, graph, threads=1, on_gpu_failure=choice, say=say)
        for choice in ("fall_back", "stop")
    ]

    def failing(self: object, image: np.ndarray) -> None:
        raise BackendError("OpenVINO failed on device CPU")

    monkeypatch.setattr(compiler.CompiledModel, "__call__", failing)
    image = golden_image(128, 192)
    for _ in range(2):
        np.testing.assert_array_equal(backends[0](image)[0][0], expected_labels(image[0]))
    assert backends[0].info.reasons == (Reason("OpenVINO failed", "OpenVINO failed on device CPU"),)
    assert [level for _, level in said] == [Level.WARNING]
    assert isinstance(backends[0], FallBackBackend)
    assert backends[0].running.info.kind == "onnxruntime"
    with pytest.raises(BackendError, match="OpenVINO failed on device CPU"):
        backends[1](image)


@pytest.mark.usefixtures("cache")
def test_what_is_not_here_is_told_in_one_sentence(bundle: Bundle, graph: GraphSpec) -> None:
    devices = {name.partition(".")[0] for name in openvino.Core().available_devices}
    for device, driver in (("NPU", "intel-level-zero-npu"), ("GPU", "intel-opencl-icd")):
        if device not in devices:
            with pytest.raises(BackendError) as raised:
                OpenVinoBackend(bundle, graph, options=OpenVinoOptions(device))
            assert str(raised.value) == (
                f"OpenVINO {VERSION} finds no device {device} here, only {', '.join(sorted(devices))}; install the "
                f"driver of the {device} ({driver}), or choose another device"
            )
    with pytest.raises(BackendError, match="device 'TPU' is not known; choose one of CPU, GPU, NPU"):
        OpenVinoOptions("TPU")
    with pytest.raises(BackendError, match="precision 'int4' is not known; choose one of f32, bf16, f16"):
        OpenVinoOptions(precision="int4")


@pytest.mark.usefixtures("cache")
def test_a_number_format_that_the_processor_lacks_is_refused(
    bundle: Bundle, graph: GraphSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler.Compiler, "_ask", lambda self, name: ["FP32", "INT8"])
    with pytest.raises(
        BackendError, match="device CPU computes in f32, not in bf16; choose another inference_precision"
    ):
        OpenVinoBackend(bundle, graph, options=OpenVinoOptions(precision="bf16"))


@pytest.mark.usefixtures("cache")
def test_an_openvino_that_is_not_installed_is_told_with_how_to_install_it(
    bundle: Bundle, graph: GraphSpec, say: Any, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match=r"pip install -e '.\[openvino\]' in the source folder of hrda_ros"):
        open_backend("openvino", bundle, graph)
    assert open_backend("openvino", bundle, graph, on_gpu_failure="fall_back", say=say).info.kind == "onnxruntime"
    assert said[0][1] == Level.WARNING
    monkeypatch.delenv("HRDA_AUTO")
    reasons = open_backend("auto", bundle, graph).info.reasons
    assert reasons[-1] == Reason("no OpenVINO", "the package 'openvino' is not installed")


@pytest.mark.usefixtures("cache")
def test_without_onnx_runtime_openvino_runs_unchecked_by_it(
    bundle: Bundle, graph: GraphSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setenv("HRDA_AUTO", "openvino")
    backend = open_backend("auto", bundle, graph, threads=1)
    assert str(backend.info) == (
        f"OpenVINO {VERSION} CPU, 1 thread; no ONNX Runtime: the package 'onnxruntime' is not installed"
    )
    image = _image(64, 64)
    np.testing.assert_array_equal(backend(image)[0][0], expected_labels(image[0]))


def test_auto_chooses_from_the_names_of_the_variable(
    bundle: Bundle, graph: GraphSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRDA_AUTO", "onnx")
    assert open_backend("auto", bundle, graph).info.reasons == ()
    monkeypatch.setenv("HRDA_AUTO", "onnx, vulkan")
    with pytest.raises(BackendError, match="HRDA_AUTO names 'vulkan', expected some of tensorrt, cuda, openvino, onnx"):
        open_backend("auto", bundle, graph)
