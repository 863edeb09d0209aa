"""Compiles a graph with OpenVINO for one image size, and proves that it gives the labels that ONNX Runtime gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hrda_core import __version__
from hrda_core.errors import BackendError, GpuError, MissingPackageError, one_line, require
from hrda_core.inference.golden import check_golden, make_golden
from hrda_core.inference.made_image import golden_image
from hrda_core.inference.onnx_files import external_files, onnx_sha256
from hrda_core.inference.openvino.compiled_models import CompiledModels, StoredModel
from hrda_core.inference.openvino.options import OpenVinoOptions
from hrda_core.inference.openvino.reading import read_graph, reason, require_openvino
from hrda_core.inference.openvino.signal_stack import kept_signal_stack
from hrda_core.inference.say import Say
from hrda_core.whole_files import cache_folder

__all__ = ["CompiledModel", "Compiler", "Reference"]

UInt8Array: TypeAlias = "npt.NDArray[np.uint8]"
Run: TypeAlias = "Callable[[UInt8Array], tuple[UInt8Array, UInt8Array]]"
Reference: TypeAlias = "Callable[[UInt8Array], tuple[UInt8Array, UInt8Array] | None]"

_CAPABILITY = {"f32": "FP32", "bf16": "BF16", "f16": "FP16"}
_GOLDEN_PRECISION = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
_DRIVERS = {
    "GPU": "install the driver of the GPU (intel-opencl-icd)",
    "NPU": "install the driver of the NPU (intel-level-zero-npu)",
}
_CONVOLUTION_ENDING = "/WithoutBiases"
"""What OpenVINO adds to the name of a convolution of ONNX when it splits the biases off."""

_READING = "1"
"""Version of what `reading.py` does to a graph: a fact of each compiled model."""


class CompiledModel:
    """A compiled model with the memory of its images. It is not thread-safe: use it from one caller at a time.

    Attributes:
        equal: share of the clear pixels of the made image with ONNX Runtime's class, 0..1; None where ONNX Runtime is
            not installed.
    """

    def __init__(self, compiled: Any, device: str) -> None:
        self._request, self._device = compiled.create_infer_request(), device
        self.equal: float | None = None

    def __call__(self, image: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
        """Return labels and confidence of one image, uint8 (1, H, W) each, as arrays that the caller owns.

        Args:
            image: uint8 (1, H, W, 3) of the size that the model was compiled for.

        Raises:
            BackendError: it failed; `GpuError` where the device is not the processor.
        """
        try:
            self._request.infer({"image": image})
            labels, confidence = (np.array(self._request.get_tensor(name).data) for name in ("labels", "confidence"))
        except Exception as error:  # those of C++ come as any, such as MemoryError
            failed = BackendError if self._device == "CPU" else GpuError
            raise failed(
                f"OpenVINO failed on device {self._device} on an image of shape {image.shape}: {reason(error)}"
            ) from error
        return labels, confidence

    def layer_seconds(self) -> dict[str, float]:
        """Return the seconds of each layer of the last image; empty where it was not compiled for that.

        Layers have the names of the graph's nodes or results.
        """
        times = {layer.node_name: layer.real_time.total_seconds() for layer in self._request.profiling_info}
        return {name.removesuffix(_CONVOLUTION_ENDING): seconds for name, seconds in times.items() if seconds > 0}


class Compiler:
    """Compiles one graph for one image size after the other.

    Args:
        path: ONNX file.
        precision: number format that is written in the graph, see `GraphSpec`.
        threads: CPU threads of one inference.
        options: device, and number format of the computation.
        reference: gives ONNX Runtime's masks of an image, or None where it is not installed.
        say: takes lines for the user.

    Attributes:
        version: release of OpenVINO.
        device_name: full name of the device.

    Raises:
        MissingPackageError: OpenVINO is not installed.
        BackendError: it lacks the device, or the device lacks the number format.
        BundleError: weights lie outside the folder of the graph.
    """

    @kept_signal_stack()
    def __init__(
        self, path: Path, precision: str, threads: int, options: OpenVinoOptions, reference: Reference, say: Say
    ) -> None:
        self._openvino = require_openvino()
        self._path, self._graph_precision, self._options = path, precision, options
        self._reference, self._say = reference, say
        self.version = str(self._openvino.__version__).partition("-")[0]
        external_files(path)
        self._core = self._openvino.Core()
        self._check_device()
        self._capabilities = self._ask("OPTIMIZATION_CAPABILITIES")
        self._check_precision()
        self.device_name = str(self._ask("FULL_DEVICE_NAME"))
        self._config = _config(options, threads)
        self._onnx_sha256 = onnx_sha256(path)
        self._stored = CompiledModels(cache_folder() / "openvino", say)

    @kept_signal_stack()
    def compile(self, size: tuple[int, int], *, any_size: bool = False) -> CompiledModel:
        """Return the graph compiled, from disk where it was compiled before, after its golden check.

        Args:
            size: height and width of the images, pixels.
            any_size: compile for any size, which is slower; `size` is then that of the golden check alone.

        Raises:
            BackendError: OpenVINO cannot read or compile the graph, or gives other labels than ONNX Runtime.
            BundleError: the graph has other inputs or outputs.
        """
        subject = self._subject("any" if any_size else "x".join(map(str, size)))
        facts = self._facts()
        stored = self._stored.find(subject, facts)
        if stored is not None:
            try:
                return self._imported(stored)
            except Exception as error:
                self._say(f"a compiled model of '{self._path.name}' is compiled again: {one_line(error)[:300]}")
                self._stored.discard(subject, facts)
        compiled = self._compile(None if any_size else size)
        model, golden = CompiledModel(compiled, self._options.device), self._golden(size)
        model.equal = self._check(golden, model)
        if "EXPORT_IMPORT" in self._capabilities:
            exported = compiled.export_model()
            content = exported if isinstance(exported, bytes) else exported.getvalue()  # bytes until 2025
            self._stored.keep(subject, facts, StoredModel(content, golden))
        return model

    @kept_signal_stack()
    def profile(self, size: tuple[int, int], runs: int) -> dict[str, float]:
        """Return the seconds of each layer for the made image of a size, mean of `runs`. It compiles for that.

        Raises:
            BackendError, BundleError: see `compile`.
        """
        image, model = golden_image(*size), CompiledModel(self._compile(size, PERF_COUNT=True), self._options.device)
        model(image)
        total: dict[str, float] = {}
        for _ in range(runs):
            model(image)
            for name, seconds in model.layer_seconds().items():
                total[name] = total.get(name, 0.0) + seconds / runs
        return total

    def _compile(self, size: tuple[int, int] | None, **more: Any) -> Any:
        model = read_graph(self._core, self._path, size)
        try:
            return self._core.compile_model(model, self._options.device, {**self._config, **more})
        except Exception as error:
            raise BackendError(
                f"OpenVINO {self.version} cannot compile '{self._path}' for device {self._options.device} "
                f"({reason(error)}); run the bundle with backend 'onnx'"
            ) from error

    def _imported(self, stored: StoredModel) -> CompiledModel:
        compiled = self._core.import_model(stored.model, self._options.device, self._config)
        model = CompiledModel(compiled, self._options.device)
        model.equal = self._check(stored.golden, model)
        return model

    def _golden(self, size: tuple[int, int]) -> bytes:
        """The made image of a size with ONNX Runtime's masks; empty where ONNX Runtime is not installed."""
        image = golden_image(*size)
        masks = self._reference(image)
        return b"" if masks is None else make_golden(image, *masks)

    def _check(self, golden: bytes, run: Run) -> float | None:
        if not golden:
            return None
        key = "int8" if self._graph_precision == "int8" else _GOLDEN_PRECISION[self._options.precision]
        return check_golden(golden, run, key, subject=f"OpenVINO on device {self._options.device}")

    def _subject(self, size: str) -> dict[str, str]:
        return {
            "onnx_sha256": self._onnx_sha256,
            "size": size,
            **{name: str(value) for name, value in sorted(self._config.items())},
            "device": self._options.device,
        }

    def _facts(self) -> dict[str, str]:
        return {
            "openvino": str(self._openvino.__version__),
            "device_name": self.device_name,
            "reading": _READING,
            "package": __version__,
            "checked_by": _onnxruntime_version(),
        }

    def _check_device(self) -> None:
        found = list(dict.fromkeys(name.partition(".")[0] for name in self._core.available_devices))
        if self._options.device not in found:
            remedy = _DRIVERS.get(self._options.device, "")
            raise BackendError(
                f"OpenVINO {self.version} finds no device {self._options.device} here, only "
                f"{', '.join(found) or 'none'}; {remedy + ', or ' if remedy else ''}choose another device"
            )

    def _check_precision(self) -> None:
        asked = self._options.precision
        able = [name for name, capability in _CAPABILITY.items() if capability in self._capabilities]
        if asked not in able:
            raise BackendError(
                f"device {self._options.device} computes in {', '.join(able) or 'none of our number formats'}, not in "
                f"{asked}; choose another inference_precision"
            )

    def _ask(self, name: str) -> Any:
        return self._core.get_property(self._options.device, name)


def _config(options: OpenVinoOptions, threads: int) -> Mapping[str, Any]:
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": options.precision}
    if options.device != "CPU":
        return {**config, "PERFORMANCE_HINT": "LATENCY"}
    # Threads that are bound to cores would stay there when the camera driver and DDS want them.
    return {**config, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}


def _onnxruntime_version() -> str:
    try:
        return str(require("onnxruntime", "runtime").__version__)
    except MissingPackageError:
        return "nothing"
