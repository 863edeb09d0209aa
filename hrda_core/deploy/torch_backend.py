"""The PyTorch back end: the bundle's network itself, for research, plans without a graph, and GPUs without TensorRT.

It computes the same function as the ONNX graphs: camera bytes to class ids and confidence. On the CPU it runs eagerly.
On an NVIDIA GPU one frame is one CUDA graph between two copies, with static buffers, pinned host memory, a stream of
its own, and channels-last convolutions in 16 bits. The code for the GPU has been read and type-checked, and has not
been run by its authors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hrda_core.deploy.deploy_graph import DeployGraph, static_graph
from hrda_core.deploy.folding import folded
from hrda_core.deploy.network import load_network
from hrda_core.deploy.torch_runners import CudaGraphRunner, EagerRunner
from hrda_core.errors import BackendError, GpuError
from hrda_core.inference.backends.onnx_backend import default_threads
from hrda_core.inference.backends.protocol import BackendInfo
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.inference.image_plan import plan_for_graph
from hrda_core.models.hrda import HRDA
from hrda_core.models.segmenter import Segmenter
from hrda_core.window_plan import PlanChoice
from hrda_core.windows.class_bands import predict_classes
from hrda_core.windows.torch_windows import plan_for

__all__ = ["TORCH_PRECISIONS", "TorchBackend"]

UInt8Array = npt.NDArray[np.uint8]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TORCH_PRECISIONS = tuple(_DTYPES)
"""Number formats of convolutions and matrix products; norms and softmax are in fp32 in all of them."""


class TorchBackend:
    """One window plan of one bundle in PyTorch. It is not thread-safe: use it from one caller at a time.

    Args:
        bundle: an open bundle with weights.
        graph: plan and size; its file is not read. A graph without a file (`""`) runs as `predict_logits` runs
            its plan, `nested` and `slide` included, and takes images of any size.
        threads: CPU threads, of the whole process while a frame runs; 0 = all cores but one.
        device: `cpu`, `cuda`, or `auto`: the GPU where PyTorch sees one.
        precision: `fp32`, `bf16`, or `fp16` (on a GPU).

    Attributes:
        info: what runs where.
        device_seconds: on a GPU, time of the last frame without the copies to and from it; None on the CPU.

    Raises:
        BackendError: the device or precision is unknown, the network has no such plan, or this machine cannot run it.
        BundleError: the bundle has no weights.
        GpuError: the GPU's memory is full.
    """

    def __init__(
        self,
        bundle: Bundle,
        graph: GraphSpec,
        *,
        threads: int = 0,
        device: str = "auto",
        precision: str = "fp32",
    ) -> None:
        place = _device(device)
        _check_precision(precision, place)
        threads = threads or default_threads()
        module = _with_products_in(_DTYPES[precision], _network(bundle, graph)).to(place)
        if place.type == "cuda" and precision != "fp32":
            module = module.to(memory_format=torch.channels_last)
        self._on_gpu, self._takes_batch = place.type == "cuda", graph.size is None
        self._runner: EagerRunner | CudaGraphRunner | None = (
            CudaGraphRunner(module, place, _DTYPES[precision])
            if self._on_gpu
            else EagerRunner(module, _DTYPES[precision], threads)
        )
        self.info = BackendInfo("torch", str(torch.__version__), threads=threads, precision=precision)
        if self._on_gpu:
            name = torch.cuda.get_device_name(place)
            self.info = BackendInfo("torch", str(torch.__version__), "cuda", name, 0, precision, ("CUDA graph",))

    @property
    def takes_batch(self) -> bool:
        """Whether the graph is for any image size; then it takes any number of images too."""
        return self._takes_batch

    @property
    def device_seconds(self) -> float | None:
        """On a GPU, time of the last frame without copies, seconds; None on the CPU."""
        return None if self._runner is None else self._runner.device_seconds

    @property
    def device_memory_bytes(self) -> int | None:
        """On a GPU, largest amount of memory that PyTorch has held so far in this process."""
        return int(torch.cuda.max_memory_reserved()) if self._on_gpu else None

    def __call__(self, image: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
        """See `Backend.__call__`.

        Raises:
            BackendError: the image does not fit the plan.
            GpuError: the GPU's memory is full.
        """
        if self._runner is None:
            raise BackendError("this back end was closed; open another one")
        try:
            labels, confidence = self._runner(torch.from_numpy(np.require(image, None, ["C", "W"])))
        except torch.cuda.OutOfMemoryError as error:
            raise GpuError(f"the GPU's memory is full ({_first_line(error)}); use a smaller image or plan") from error
        except RuntimeError as error:
            raise BackendError(f"PyTorch failed on an image of shape {image.shape}: {_first_line(error)}") from error
        return labels, confidence

    def close(self) -> None:
        """Free the network; on a GPU its memory goes back to the driver. Afterwards the back end cannot be called."""
        self._runner = None
        if self._on_gpu:
            torch.cuda.empty_cache()


class _Windows(nn.Module):
    """A window plan of `predict_logits`, from camera bytes to class ids and confidence."""

    def __init__(self, model: nn.Module, choice: PlanChoice, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.deploy = DeployGraph(model, model, 1.0, mean, std)  # its normalisation, and the network
        self._choice = choice

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map images uint8 (B, H, W, 3) RGB to class ids and confidence, uint8 (B, H, W) each."""
        # On a CPU one window or crop after the other is quicker and needs the least memory.
        pixels, max_batch = self.deploy.normalise(image), None if image.is_cuda else 1
        labels, confidence = predict_classes(self.deploy.network, pixels, self._choice, max_batch=max_batch)
        return labels, (confidence * 255 + 0.5).to(torch.uint8)


def _network(bundle: Bundle, graph: GraphSpec) -> nn.Module:
    """The function of a graph as a module: uint8 (1, H, W, 3) -> class ids and confidence, uint8 (1, H, W)."""
    model = load_network(bundle)
    assert isinstance(model, HRDA | Segmenter)
    if not graph.file:
        return _Windows(model, graph.choice, bundle.mean, bundle.std).eval()
    light = folded(model)
    if graph.size is None:
        if graph.plan == "topk":
            raise BackendError(f"window plan '{graph.plan}' needs a graph of one image size; export one")
        return DeployGraph.for_any_size(light, graph.choice, bundle.mean, bundle.std).eval()
    if graph.plan == "overlap":  # its crops are the network's, not the graph's
        return static_graph(light, plan_for(model, graph.choice, *graph.size), bundle.mean, bundle.std).eval()
    return static_graph(light, plan_for_graph(bundle, graph, *graph.size), bundle.mean, bundle.std).eval()


def _with_products_in(dtype: torch.dtype, module: nn.Module) -> nn.Module:
    """Convolutions and matrix products in `dtype` under autocast; norms, fusion, softmax and argmax in fp32."""
    if dtype == torch.float32:
        return module
    for part in module.modules():
        # Cast once here, instead of by autocast in every frame.
        if not isinstance(part, _NORMS):
            for parameter in part.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
        if isinstance(part, HRDA):
            _float_outputs(part.decode_head.head, part.decode_head.scale_attention)
        elif isinstance(part, Segmenter):
            _float_outputs(part.decode_head)
    return module


_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def _float_outputs(*heads: nn.Module | None) -> None:
    """Class ids and confidence hang on small differences of logits."""
    for head in heads:
        if head is not None:
            head.register_forward_hook(lambda module, inputs, output: output.float())


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise BackendError(f"device '{name}' is not known; choose one of auto, cpu, cuda")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise BackendError(
            "PyTorch sees no NVIDIA GPU here; use device 'cpu', or install a driver and PyTorch for CUDA"
        )
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def _check_precision(name: str, device: torch.device) -> None:
    fitting = TORCH_PRECISIONS if device.type == "cuda" else ("fp32", "bf16")
    if name not in fitting:
        raise BackendError(f"PyTorch runs on {device.type.upper()} in {' or '.join(fitting)} here, not in '{name}'")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
