"""ONNX Runtime on the CPU: the back end that runs everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrda_core.errors import BackendError, BundleError, require

__all__ = ["OnnxBackend", "default_threads"]

_INPUT = ("image", "tensor(uint8)")
_OUTPUTS = ["labels", "confidence"]


def default_threads() -> int:
    """All usable cores but one, which stays free for the camera driver and DDS; at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, cores - 1)


class OnnxBackend:
    """One ONNX graph in an ONNX Runtime session.

    Args:
        path: ONNX file with input `image` uint8 (1, H, W, 3) and outputs `labels`, `confidence` uint8 (1, H, W).
        threads: intra-op threads; 0 = `default_threads()`.

    Raises:
        MissingPackageError: onnxruntime is not installed.
        BundleError: the file is not a valid graph, or its inputs and outputs are others.
    """

    def __init__(self, path: Path, *, threads: int = 0) -> None:
        ort = require("onnxruntime", "runtime")
        self.threads = threads or default_threads()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # Spinning threads would take the core that the camera driver and DDS need between two frames.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises classes of its own that are not exported
            reason = str(error).splitlines()[0][:200]
            raise BundleError(f"ONNX Runtime cannot load '{path}' ({reason}); export the bundle again") from error
        found = [(entry.name, entry.type) for entry in self._session.get_inputs()]
        outputs = [entry.name for entry in self._session.get_outputs()]
        if found != [_INPUT] or outputs != _OUTPUTS:
            raise BundleError(
                f"graph '{path}' has inputs {found} and outputs {outputs}, expected {[_INPUT]} and {_OUTPUTS}; "
                f"export the bundle again with 'hrda export'"
            )
        plural = "" if self.threads == 1 else "s"
        self.description = f"onnxruntime {ort.__version__} CPU, {self.threads} thread{plural}"

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """See `Backend.__call__`.

        Raises:
            BackendError: the graph failed on this input.
        """
        try:
            labels, confidence = self._session.run(_OUTPUTS, {"image": image})
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            raise BackendError(f"ONNX Runtime failed on an image of shape {image.shape}: {reason}") from error
        return labels, confidence
