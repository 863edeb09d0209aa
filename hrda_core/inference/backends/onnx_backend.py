"""ONNX Runtime: the back end that runs everywhere on the CPU, and with onnxruntime-gpu on an NVIDIA GPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.errors import BackendError, BundleError, GpuError, how_to_install, require, some_of
from hrda_core.inference.backends.protocol import BackendInfo
from hrda_core.inference.onnx_files import external_files, onnx_versions
from hrda_core.inference.thread_choice import best_threads
from hrda_core.machine import usable_cores
from hrda_core.memory import lacks_memory
from hrda_core.nvidia_driver import require_driver

__all__ = ["OnnxBackend", "default_threads", "reads"]

_INPUT = ("image", "tensor(uint8)")
_OUTPUTS = ["labels", "confidence"]
_CUDA = "CUDAExecutionProvider"
_READS = (
    ((1, 12), 17, 8),
    ((1, 14), 18, 8),
    ((1, 15), 19, 9),
    ((1, 17), 20, 9),
    ((1, 18), 21, 10),
    ((1, 21), 22, 10),
    ((1, 23), 23, 11),
)
"""First release of ONNX Runtime that reads an operator set and an IR version: (release, operator set, IR version)."""


def default_threads() -> int:
    """Return the number of usable cores but one, which stays free for the camera driver and DDS; at least 1."""
    return max(1, usable_cores() - 1)


class OnnxBackend:
    """One ONNX graph in an ONNX Runtime session.

    Args:
        path: ONNX file with the input `image` uint8 (B, H, W, 3) and the outputs `labels`, `confidence` uint8
            (B, H, W); B is 1, or any number.
        threads: intra-op threads; 0 = what `hrda bench --sweep_threads` found best here, else `default_threads()`.
        device: `cpu` or `cuda`.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        BundleError: the file is not a valid graph, has other inputs or outputs, or keeps weights outside its own
            folder.
        GpuError: the device is `cuda`, and there is no driver, no GPU, or no memory on it, or this onnxruntime cannot
            use NVIDIA GPUs.
        BackendError: onnxruntime is too old for the graph.
    """

    def __init__(self, path: Path, *, threads: int = 0, device: str = "cpu") -> None:
        ort = require("onnxruntime", "runtime")
        external_files(path)
        threads = threads or best_threads(path) or default_threads()
        self._on_gpu = device == "cuda"
        self.info = BackendInfo("onnxruntime", ort.__version__, threads=threads)
        if self._on_gpu:
            self.info = BackendInfo("onnxruntime", ort.__version__, "cuda", _cuda_gpu(ort))
        self._session = self._open(ort, path, threads)
        self._check_names(path)
        # A length that is not fixed has a name, or none; where even the number of lengths is open, there are none.
        self._takes_batch = any(not isinstance(length, int) for length in self._session.get_inputs()[0].shape[:1])

    @property
    def takes_batch(self) -> bool:
        """Whether the graph leaves the number of images open, as those for any image size that `hrda export` writes."""
        return self._takes_batch

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """See `Backend.__call__`.

        Raises:
            BackendError: the graph failed on this input.
            GpuError: the GPU failed.
        """
        try:
            labels, confidence = self._session.run(_OUTPUTS, {"image": image})
        except Exception as error:
            text = f"ONNX Runtime failed on an image of shape {image.shape}: {_first_line(error)}"
            if self._on_gpu and ("CUDA" in str(error) or "memory" in str(error).lower()):
                raise GpuError(text) from error
            raise BackendError(text) from error
        return labels, confidence

    def close(self) -> None:
        """Free the memory of the session. Afterwards the back end cannot be called."""
        self._session = None

    def _open(self, ort: Any, path: Path, threads: int) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads would take the core that the camera driver and DDS need between two frames.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # A block planned for the maps of a size comes beside what the first frame took: a third more memory.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        providers = [_CUDA, "CPUExecutionProvider"] if self._on_gpu else ["CPUExecutionProvider"]
        try:
            session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # ONNX Runtime raises classes of its own that are not exported
            reason = _first_line(error)
            if advice := _too_old(ort.__version__, path):
                raise BackendError(advice) from error
            if self._on_gpu:
                raise GpuError(f"ONNX Runtime cannot use the GPU ({reason})") from error
            raise BundleError(f"ONNX Runtime cannot load '{path}' ({reason}); export the bundle again") from error
        if self._on_gpu and session.get_providers()[:1] != [_CUDA]:
            # It goes on with the CPU by itself when the libraries of CUDA or cuDNN do not load.
            raise GpuError(
                f"ONNX Runtime {ort.__version__} did not start on the GPU; install the CUDA and cuDNN libraries that "
                f"this onnxruntime-gpu was built for"
            )
        return session

    def _check_names(self, path: Path) -> None:
        found = [(entry.name, entry.type) for entry in self._session.get_inputs()]
        outputs = [entry.name for entry in self._session.get_outputs()]
        if found != [_INPUT] or not set(_OUTPUTS) <= set(outputs):
            inputs = some_of([f"{name} ({kind})" for name, kind in found])
            raise BundleError(
                f"graph '{path}' has the inputs {inputs} and the outputs {some_of(outputs)}, expected {_INPUT[0]} "
                f"({_INPUT[1]}) and {', '.join(_OUTPUTS)}; export the bundle again with 'hrda export'"
            )


def _too_old(version: str, path: Path) -> str:
    """A sentence if this ONNX Runtime is older than the graph; empty if it is not."""
    opset, ir_version = onnx_versions(path)
    fitting = [release for release, operators, ir in _READS if operators >= opset and ir >= ir_version]
    # Newer than the table: nothing is known but that the newest release of the table does not read it.
    needed = fitting[0] if fitting else (_READS[-1][0][0], _READS[-1][0][1] + 1)
    if _release(version) >= needed:
        return ""
    return (
        f"onnxruntime {version} is too old for '{path}' (operator set {opset}, IR version {ir_version}): "
        f"{needed[0]}.{needed[1]} is the first release that reads it; remove the old one ('python3 -m pip uninstall "
        f"onnxruntime') and {how_to_install('runtime')}"
    )


def reads(version: str) -> int:
    """Return the newest operator set that a release of ONNX Runtime is known to read; 0 = it is older than we know."""
    return max((opset for release, opset, _ in _READS if _release(version) >= release), default=0)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _cuda_gpu(ort: Any) -> str:
    """Name of the GPU that ONNX Runtime can use."""
    driver = require_driver()
    if _CUDA not in ort.get_available_providers():
        raise GpuError(
            f"onnxruntime {ort.__version__} here cannot use NVIDIA GPUs; install onnxruntime-gpu in its place"
        )
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA and cuDNN that were installed by pip; where there are none it does nothing
    return driver.gpu.name


def _first_line(error: Exception) -> str:
    if lacks_memory(error):
        return "it asks for more memory than is free"
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
