"""How the node makes its model: settings that reach it, warm-up, and what it says. No ROS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_segmenter import FakeSegmenter
from tiny_bundle import write_tiny_bundle

from hrda_core.errors import BackendError, BundleError, GpuError
from hrda_core.inference import Bundle, backends
from hrda_core.inference.backends.fallback import FallBackBackend
from hrda_core.inference.backends.onnx_backend import OnnxBackend
from hrda_core.inference.backends.protocol import BackendInfo
from hrda_core.inference.bundle import GraphSpec
from hrda_core.inference.openvino.options import OpenVinoOptions
from hrda_core.inference.say import Level, silent
from hrda_core.window_plan import PlanChoice
from hrda_ros.masks.served_model import Running
from hrda_ros.model import segmenter
from hrda_ros.model.segmenter import open_segmenter, warmed_up
from hrda_ros.settings.parameters import Settings


class Recording(FakeSegmenter):
    """Notes the sizes that it is warmed up with."""

    def __init__(self, *sizes: tuple[str, tuple[int, int]]) -> None:
        super().__init__("recording")
        self.bundle.static_graphs = tuple(GraphSpec(PlanChoice(plan), "x.onnx", size) for plan, size in sizes)
        self.sizes: list[tuple[int, int]] = []

    def warm_up(self, height: int, width: int) -> None:
        if height > 5000:
            raise BackendError("out of memory")
        self.sizes.append((height, width))


class LostGpu:
    """A back end on a GPU that has just gone."""

    info = BackendInfo("tensorrt", "0", "cuda", "a GPU")

    def __call__(self, image: Any) -> Any:
        raise GpuError("the GPU is lost")

    def close(self) -> None:
        """Nothing to free."""


def test_every_setting_of_the_model_reaches_the_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(segmenter, "Predictor", lambda *args, **options: calls.append((*args, options)))
    given = Settings(
        model="/models/mine", backend="tensorrt", plan="topk", long_side=640, threads=3, precision="fp16",
        on_gpu_failure="stop", build_engine=True, device="GPU", inference_precision="f16", masks_size="network",
        cameras="front,rear,left",
    )  # fmt: skip
    open_segmenter(given, silent)
    open_segmenter(Settings(model="m"))
    (path, backend, plan, options), (*_, defaults) = calls
    assert (path, backend, plan) == (Path("/models/mine"), "tensorrt", "topk")
    assert options == {
        "long_side": 640, "threads": 3, "precision": "fp16", "on_gpu_failure": "stop", "build_engine": True,
        "openvino": OpenVinoOptions("GPU", "f16"), "network_size": True, "sizes": 3, "say": silent,
    }  # fmt: skip
    assert (defaults["long_side"], defaults["on_gpu_failure"], defaults["build_engine"]) == (None, "fall_back", False)
    assert (defaults["network_size"], defaults["sizes"]) == (False, 1)


def test_a_hand_over_while_the_gpu_runs_is_a_warning(tiny_bundle: Path) -> None:
    lines: list[Any] = []
    cpu = OnnxBackend(tiny_bundle / "model.onnx")
    backend = FallBackBackend(LostGpu(), lambda: cpu, lambda *line: lines.append(line))
    backend(np.zeros((1, 64, 64, 3), np.uint8))
    assert lines == [(f"the GPU is lost; from now on {cpu.info}", Level.WARNING)]


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_hand_over_at_the_start_is_a_warning(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def no_gpu(request: Any) -> Any:
        raise GpuError("no NVIDIA driver here")

    monkeypatch.setattr(backends, f"_open_{name}", no_gpu)
    lines: list[Any] = []
    opened = open_segmenter(Settings(model=str(tiny_bundle), backend=name), lambda *line: lines.append(line))
    assert [level for _, level in lines] == [Level.WARNING]
    assert f"not '{name}': no NVIDIA driver here" in opened.backend_description
    with pytest.raises(BackendError, match="no NVIDIA driver here"):
        open_segmenter(Settings(model=str(tiny_bundle), backend=name, on_gpu_failure="stop"))


def test_masks_can_stay_at_the_size_to_which_the_image_is_resized(tiny_bundle: Path) -> None:
    rgb = np.random.default_rng(5).integers(0, 256, (90, 120, 3), np.uint8)
    sizes = {
        size: open_segmenter(Settings(model=str(tiny_bundle), backend="onnx", long_side=40, masks_size=size))(rgb)
        for size in ("image", "network")
    }
    assert (sizes["image"].labels.shape, sizes["network"].labels.shape) == ((90, 120), (30, 40))
    small = sizes["network"]
    for whole, part in ((sizes["image"].labels, small.labels), (sizes["image"].confidence, small.confidence)):
        np.testing.assert_array_equal(whole, part.repeat(3, 0).repeat(3, 1))


def test_before_the_first_image_it_warms_up_in_the_sizes_that_its_plan_has_graphs_for() -> None:
    known = Recording(("tiles", (480, 640)), ("context", (64, 64)), ("tiles", (480, 640)), ("tiles", (384, 640)))
    assert warmed_up(known) is known
    assert known.sizes == [(480, 640), (384, 640)]
    unknown = Recording()
    warmed_up(unknown)
    assert unknown.sizes == [segmenter.WARM_UP_SIZE]


def test_once_the_camera_is_known_it_warms_up_in_its_size_alone() -> None:
    model = Recording(("tiles", (480, 640)))
    warmed_up(model, [(600, 800)])
    assert (model.sizes, model.closed) == ([(600, 800)], 0)


def test_p6_a_model_that_fails_to_warm_up_is_closed() -> None:
    model = Recording()
    with pytest.raises(BackendError, match="out of memory"):
        warmed_up(model, [(6000, 8000)])
    assert model.closed == 1


def test_what_runs_is_told_with_plan_size_precision_and_reason(tmp_path: Path) -> None:
    entry = {"plan": "topk", "file": "model.onnx", "grid": [2, 2], "size": [64, 64], "keep": 1}
    bundle = write_tiny_bundle(tmp_path / "b", static_graphs=[entry])
    topk = warmed_up(open_segmenter(Settings(model=str(bundle), plan="topk", backend="onnx")))
    assert str(Running.of(topk)).startswith("plan topk (64x64, fp32) on onnxruntime ")
    tiles = open_segmenter(Settings(model=str(bundle), backend="onnx"))
    assert Running.of(tiles).graph == "any size, fp32"


def test_a_bundle_shows_the_node_all_that_it_asks_for(tiny_bundle: Path) -> None:
    model: segmenter.ModelInfo = Bundle.open(tiny_bundle)
    assert (model.name, model.preset, model.static_graphs) == ("tiny", "tiny", ())


def test_a_bare_name_is_looked_up_in_the_home_of_the_users_models_and_the_log_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HRDA_MODELS", str(tmp_path))
    mine, lines = write_tiny_bundle(tmp_path / "mine"), []
    opened = open_segmenter(Settings(model="mine", backend="onnx"), lambda line, *level: lines.append(line))
    assert opened.bundle.path == mine
    assert lines == [f"model 'mine' is '{mine}' (yours)"]
    with pytest.raises(BundleError, match=r"'nowhere' is not a folder; give .* a name that 'hrda models' lists"):
        open_segmenter(Settings(model="nowhere"))
