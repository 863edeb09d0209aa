"""The options of `hrda bench`, the graph that they mean, and the image that is timed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrda_core.bench.roofline import Device
from hrda_core.errors import BackendError, RecipeError
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.inference.image_plan import graph_for_image, plan_for_graph
from hrda_core.inference.made_image import golden_image
from hrda_core.inference.openvino.options import OpenVinoOptions
from hrda_core.window_plan import PlanChoice

__all__ = ["BENCH_PRECISIONS", "BenchRequest", "image_for", "requested_graph"]

BENCH_PRECISIONS = ("fp32", "fp16", "bf16", "int8")
"""Of graphs, and `bf16` for PyTorch."""

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class BenchRequest:
    """The measurement to make. Its attributes are the options of `hrda bench`, and their help.

    Attributes:
        bundle: model bundle, or its name ('hrda models')
        plan: window plan; default: the bundle's
        size: HEIGHTxWIDTH of the image as it comes, pixels; it is padded as the graph needs it; default: 480x640
        backend: auto, onnx, openvino, cuda, torch, or tensorrt, which builds a missing engine
        device: device of OpenVINO: CPU, GPU or NPU
        inference_precision: number format in which OpenVINO computes: f32, bf16 or f16
        precision: fp32, fp16, bf16 or int8, of the graph or (torch) of the computation
        frames: number of frames that are timed
        warm_up: number of frames that run before those
        threads: CPU threads; 0 = as the back end chooses
        baseline: window plan of the same network in eager PyTorch, fp32, to compare with: nested
        baseline_frames: number of frames of the baseline that are timed
        layers: number of slowest layers to print; 0 = do not time layers
        sweep_threads: time 1, 2, 4 ... threads and keep the best number
        peak_tflops: peak TFLOP/s of a GPU that the table of devices lacks
        bandwidth_gbs: memory bandwidth of that GPU, GB/s
    """

    bundle: Path
    plan: str = ""
    size: tuple[int, int] = (480, 640)
    backend: str = "auto"
    device: str = "CPU"
    inference_precision: str = "f32"
    precision: str = "fp32"
    frames: int = 50
    warm_up: int = 3
    threads: int = 0
    baseline: str = ""
    baseline_frames: int = 5
    layers: int = 12
    sweep_threads: bool = False
    peak_tflops: float = 0.0
    bandwidth_gbs: float = 0.0

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise RecipeError(
                f"an image of {self.size[0]} x {self.size[1]} pixels is empty; both sides must be at least 1"
            )
        if self.frames < 1 or self.baseline_frames < 1 or self.warm_up < 1:
            raise RecipeError("frames, baseline frames and warm-up frames must be 1 or more")
        if self.threads < 0:
            raise RecipeError(f"threads must be 0 (as the back end chooses) or more, not {self.threads}")
        if self.precision not in BENCH_PRECISIONS:
            raise RecipeError(f"precision '{self.precision}' is not known; choose one of {', '.join(BENCH_PRECISIONS)}")
        if self.precision == "bf16" and (self.sweep_threads or self.backend != "torch"):
            raise RecipeError("precision 'bf16' is for back end 'torch'; graphs are written in fp32, fp16 or int8")
        self.openvino  # refuses what is not known  # noqa: B018
        given = self.peak_tflops, self.bandwidth_gbs
        if any(given) and min(given) <= 0:
            raise RecipeError("--peak_tflops and --bandwidth_gbs belong together, both above 0")

    @property
    def openvino(self) -> OpenVinoOptions:
        """Return what is asked of OpenVINO."""
        return OpenVinoOptions(self.device, self.inference_precision)

    @property
    def given_peaks(self) -> Device | None:
        """Return the GPU with the given peaks, or None without them. The one peak is taken for all number formats."""
        if not self.peak_tflops:
            return None
        peaks = dict.fromkeys(BENCH_PRECISIONS, self.peak_tflops * 1e12)
        return Device("given", peaks, self.bandwidth_gbs * 1e9, "given by the user")


def requested_graph(bundle: Bundle, request: BenchRequest) -> GraphSpec:
    """Return the bundle's graph for the image size; `torch` also runs plans that have no graph, and then no file.

    Raises:
        BackendError: there is none.
    """
    plan = request.plan or bundle.default_plan
    on_torch = request.backend == "torch"
    graph = graph_for_image(bundle, plan, request.size, "fp32" if on_torch else request.precision)
    if graph is not None:
        return graph
    if on_torch:
        return GraphSpec(PlanChoice(plan), "")
    size = f"{request.size[0]}x{request.size[1]}"
    raise BackendError(
        f"model bundle '{bundle.path}' has no {request.precision} graph of window plan '{plan}' for {size} pixels; "
        f"make one with 'hrda export {bundle.path} --size {size} --plan {plan} --precision {request.precision}'"
    )


def image_for(bundle: Bundle, graph: GraphSpec, size: tuple[int, int]) -> UInt8Array:
    """Make an image, uint8 (1, H, W, 3), of `size` padded as the graph takes it; without a graph it is not padded."""
    if not graph.file:
        return golden_image(*size)
    plan = plan_for_graph(bundle, graph, *size)
    return golden_image(plan.padded_height, plan.padded_width)
