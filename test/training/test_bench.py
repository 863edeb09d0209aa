"""`hrda bench`: what it measures, writes and refuses. Figures of speed themselves are not tested."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from network_bundle import write_network_bundle

from hrda_core.bench import bound as bench_bound
from hrda_core.bench import run as bench_run
from hrda_core.bench.roofline import Device
from hrda_core.deploy.network import load_network
from hrda_core.errors import BackendError, BundleError, HrdaError, RecipeError
from hrda_core.inference import Bundle, plan_flops
from hrda_core.inference.backends import BackendInfo
from hrda_core.inference.bundle import GraphSpec
from hrda_core.inference.thread_choice import best_threads, thread_counts
from hrda_core.machine import usable_cores
from hrda_core.nvidia_driver import Driver, Gpu, probe_driver
from hrda_training.bench import main

pytest.importorskip("onnxruntime")

SIZE = (100, 150)
PADDED = (128, 192)
QUICK = ("--size", "100x150", "--frames", "2", "--warm_up", "1", "--threads", "1")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network_bundle(tmp_path_factory.mktemp("bench") / "small")


@pytest.fixture
def known_cpu(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Instead of the measurement, which takes seconds."""
    cpu = Device("this CPU", {"fp32": 1e12}, 1e11, "made up")
    monkeypatch.setattr(bench_bound, "measure_cpu", lambda threads: cpu)
    return cpu


@pytest.fixture
def no_driver() -> None:
    if isinstance(probe_driver(), Driver):
        pytest.skip("there is an NVIDIA driver here")


def bench(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    """Run the command and read its record."""
    assert main([*map(str, arguments), "--json", str(tmp_path / "record.json")]) == 0
    record: dict[str, Any] = json.loads((tmp_path / "record.json").read_text())
    return record


def test_a_record_holds_figures_settings_machine_and_versions(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = bench(tmp_path, bundle, *QUICK)  # with the CPU measured
    assert record["benchmark"] == "bench"
    assert {"date", "commit", "machine", "load_average_after", "versions", "settings", "figures"} <= record.keys()
    assert record["machine"]["cores"] == usable_cores()
    settings, figures = record["settings"], record["figures"]
    assert (settings["plan"], settings["size"], settings["padded"]) == ("tiles", [*SIZE], [*PADDED])
    assert settings["backend"].startswith("onnxruntime ")
    assert figures["latency"]["frames"] == 2
    assert figures["memory"]["peak_bytes"] > 1 << 20
    gflop = plan_flops(load_network(Bundle.open(bundle)), "tiles", *PADDED, grid=(2, 2)).giga
    assert figures["gflop"] == pytest.approx(gflop, rel=0.1)  # the graph is folded
    assert figures["achieved_gflops"] == pytest.approx(figures["gflop"] / figures["latency"]["p50_ms"] * 1e3, rel=0.01)
    bound = figures["roofline"]
    assert bound["share"] == pytest.approx(bound["t_roofline_ms"] / figures["latency"]["p50_ms"], rel=0.05, abs=1e-4)
    assert figures["roofline_fps"]["H200"]["int8"] > figures["roofline_fps"]["H200"]["fp16"] > 1
    assert "agreement_with_onnxruntime" not in figures  # it is what runs
    printed = capsys.readouterr().out
    assert "p99" in printed
    assert "roofline of other devices" in printed


def test_layers_have_the_work_of_the_op_list(bundle: Path, tmp_path: Path, known_cpu: Device) -> None:
    figures = bench(tmp_path, bundle, *QUICK)["figures"]
    layers = figures["layers"]
    assert sum(row["kind"] == "Conv" for row in layers) > 20
    assert sum(row["gflops"] * row["ms"] / 1e3 for row in layers) == pytest.approx(figures["gflop"], rel=0.02)
    assert max(row["roofline_share"] for row in layers) > 0
    assert [row["ms"] for row in layers] == sorted((row["ms"] for row in layers), reverse=True)


def test_layers_can_be_left_out(bundle: Path, tmp_path: Path, known_cpu: Device) -> None:
    assert "layers" not in bench(tmp_path, bundle, *QUICK, "--layers", 0)["figures"]


def test_a_baseline_runs_in_the_same_run(
    bundle: Path, tmp_path: Path, known_cpu: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--plan", "context", "--baseline", "nested", "--baseline_frames", "1", "--layers", "0")
    figures = bench(tmp_path, bundle, *QUICK, *arguments)["figures"]
    baseline = figures["baseline"]
    assert (baseline["plan"], baseline["latency"]["frames"]) == ("nested", 1)
    assert baseline["backend"].startswith("torch ")
    assert ", 1 thread, fp32" in baseline["backend"]
    ratio = baseline["latency"]["p50_ms"] / figures["latency"]["p50_ms"]
    assert baseline["ratio_of_medians"] == pytest.approx(ratio, rel=0.01)
    assert baseline["ratio_of_medians"] > 1
    assert baseline["ratio_of_cpu_times"] > 1
    assert baseline["gflop"] > figures["gflop"]
    assert "baseline    plan nested" in capsys.readouterr().out


def test_torch_says_how_far_it_agrees_with_onnx_runtime(bundle: Path, tmp_path: Path, known_cpu: Device) -> None:
    arguments = ("--backend", "torch", "--precision", "bf16")
    figures = bench(tmp_path, bundle, *QUICK, *arguments)["figures"]
    assert 0.9 < figures["agreement_with_onnxruntime"]["labels"] < 1
    assert "layers" not in figures


def test_torch_times_plans_without_a_graph(bundle: Path, tmp_path: Path) -> None:
    record = bench(tmp_path, bundle, *QUICK, "--backend", "torch", "--plan", "overlap")
    assert (record["settings"]["graph"], record["settings"]["padded"]) == ("", [*SIZE])
    assert record["figures"]["gflop"] > 0
    assert "roofline" not in record["figures"]


def test_a_sweep_keeps_the_best_number_of_threads(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HRDA_CACHE", str(tmp_path / "cache"))
    record = bench(tmp_path, bundle, "--sweep-threads", "--frames", "2", "--size", "64x64", "--plan", "context")
    counts = thread_counts(usable_cores())
    assert record["benchmark"] == "bench_threads"
    assert list(record["figures"]["latency"]) == [str(count) for count in counts]
    best = record["figures"]["best_threads"]
    assert best in counts
    assert best_threads(bundle / "context.onnx") == best
    assert best_threads(bundle / "tiles.onnx") is None
    assert "<- kept" in capsys.readouterr().out


class Engine:
    """Stands for an engine: tells all that back ends may tell. What it computes is nothing."""

    info = BackendInfo("tensorrt", "0", "cuda", "a double", precision="fp16")
    device_seconds = 0.001
    device_memory_bytes = 5 << 20

    def __init__(self, image: np.ndarray) -> None:
        self.shape, self.closed = image.shape[:3], False

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(self.shape, np.uint8), np.zeros(self.shape, np.uint8)

    def run_seconds(self, runs: int) -> float:
        return 0.002

    def layer_seconds(self, runs: int) -> dict[str, float]:
        return {"[HostToDeviceCopy 0]": 0.001}

    def close(self) -> None:
        self.closed = True


def test_what_an_engine_tells_is_used(bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine = Engine(np.empty((1, *PADDED, 3)))
    asked: dict[str, Any] = {}
    real = bench_run.open_backend

    def open_backend(name: str, opened: Bundle, graph: GraphSpec, **options: Any) -> Any:
        if name != "tensorrt":
            return real(name, opened, graph, **options)
        asked.update(options)
        return engine

    monkeypatch.setattr(bench_run, "open_backend", open_backend)
    gpu = Driver((12, 6), Gpu("NVIDIA H200", (9, 0), 132, 1))
    monkeypatch.setattr(bench_bound, "probe_driver", lambda: gpu)
    figures = bench(tmp_path, bundle, *QUICK, "--backend", "tensorrt")["figures"]
    assert asked["build_engine"]
    assert figures["latency"]["device_p50_ms"] == 1
    assert figures["without_copies_ms"] == 2
    assert figures["memory"]["device_bytes"] == 5 << 20
    assert figures["roofline"]["device"] == "H200"
    assert figures["layers"][0]["name"] == "(layer, no op)"
    assert figures["agreement_with_onnxruntime"]["labels"] < 0.9
    assert engine.closed


def test_a_gpu_that_is_in_no_table_has_a_roofline_by_given_peaks(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_run, "open_backend", lambda *_, **__: Engine(np.empty((1, *PADDED, 3))))
    monkeypatch.setattr(bench_bound, "probe_driver", lambda: Driver((12, 6), Gpu("NVIDIA T4", (7, 5), 40, 1)))
    arguments = (*QUICK, "--backend", "tensorrt")
    assert "roofline" not in bench(tmp_path, bundle, *arguments)["figures"]
    assert "give --peak_tflops" in capsys.readouterr().err
    bound = bench(tmp_path, bundle, *arguments, "--peak_tflops", 65, "--bandwidth_gbs", 320)["figures"]["roofline"]
    assert (bound["device"], bound["bandwidth_gbytes_per_s"]) == ("given", 320)


@pytest.mark.usefixtures("no_driver")
def test_tensorrt_without_a_driver_is_one_sentence_and_no_record(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BackendError, match=r"back end 'tensorrt' cannot run: .*driver"):
        bench(tmp_path, bundle, *QUICK, "--backend", "tensorrt")
    assert not list(tmp_path.iterdir())
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "building" not in printed.err
    assert not (bundle / "engines").exists()


def test_openvino_is_timed_and_its_masks_are_compared(bundle: Path, known_cpu: Device, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the package openvino is not installed here: setup.py, extra openvino")
    record = bench(tmp_path, bundle, *QUICK, "--backend", "openvino")
    assert record["settings"]["backend"].startswith("OpenVINO ")
    figures = record["figures"]
    assert figures["agreement_with_onnxruntime"]["labels"] > 0.999
    assert figures["roofline"]["device"] == "this CPU"
    convolutions = [layer for layer in figures["layers"] if layer["kind"] == "Conv" and layer["gflops"] > 0]
    assert len(convolutions) > 20, "layers are known by their names"


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        (("--size", "480"), RecipeError, "--size must be two numbers above 0 like 480x640, not '480'"),
        (("--size", "0x64"), RecipeError, "two numbers above 0"),
        (("--frames", "0"), RecipeError, "must be 1 or more"),
        (("--threads", "-1"), RecipeError, "threads must be 0"),
        (("--precision", "fp8"), RecipeError, "'fp8' is not known"),
        (("--precision", "bf16"), RecipeError, "for back end 'torch'"),
        (("--precision", "fp16"), BackendError, "no fp16 graph .* 'hrda export .* --size 480x640 .*--precision fp16'"),
        (("--plan", "nested"), BackendError, "no fp32 graph of window plan 'nested'"),
        (("--plan", "spiral", "--backend", "torch"), BackendError, "'spiral'"),
        (("--backend", "abacus"), BackendError, "'abacus' is not known"),
        (("--baseline", "whole"), BackendError, "'whole' is not one for an HRDA network"),
        (("--peak_tflops", "3"), RecipeError, "belong together"),
        (("--bakend", "onnx"), RecipeError, "did you mean --backend"),
        (("--device", "TPU"), BackendError, "device 'TPU' is not known; choose one of CPU, GPU, NPU"),
        (("--inference_precision", "f8"), BackendError, "'f8' is not known; choose one of f32, bf16, f16"),
    ],
)
def test_a_mistake_is_one_sentence(
    bundle: Path, known_cpu: Device, arguments: tuple[str, ...], error: type[HrdaError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        main([str(bundle), *arguments])


def test_a_bundle_that_is_damaged_is_refused(bundle: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(bundle, tmp_path / "broken")
    (broken / "tiles.onnx").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"tiles\.onnx"):
        main([str(broken), *QUICK])
