"""Inference back ends behind one small interface, and the choice between them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from hrda_core.errors import BackendError
from hrda_core.inference.bundle import Bundle

__all__ = ["BACKEND_NAMES", "Backend", "open_backend"]

BACKEND_NAMES = ("auto", "onnx")
"""What a user can ask for. `auto` takes the fastest one that can run here."""


class Backend(Protocol):
    """Runs one window plan of one bundle. Not thread-safe: one caller at a time."""

    description: str
    """What runs where, for logs and diagnostics, for example `"onnxruntime 1.31 CPU, 1 thread"`."""

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Segment one padded image.

        Args:
            image: uint8 (1, H, W, 3) RGB, C-contiguous, H and W multiples of the bundle's `multiple_of`.

        Returns:
            class ids and confidence, each uint8 (1, H, W); confidence is the winning probability times 255.
        """
        ...


def open_backend(name: str, bundle: Bundle, plan: str, *, threads: int = 0) -> Backend:
    """Load the graph of `plan` into a back end.

    Args:
        name: one of `BACKEND_NAMES`.
        threads: CPU threads for one inference; 0 = all cores but one, at least one.

    Raises:
        BackendError: unknown back end, or the bundle has no graph for `plan`.
        MissingPackageError: the back end's package is not installed.
    """
    if name not in BACKEND_NAMES:
        raise BackendError(f"back end '{name}' is not known; choose one of {', '.join(BACKEND_NAMES)}")
    if plan not in bundle.graphs:
        raise BackendError(
            f"model bundle '{bundle.path}' has no graph for window plan '{plan}'; it has {', '.join(bundle.graphs)}"
        )
    from hrda_core.inference.backends.onnx_backend import OnnxBackend

    return OnnxBackend(bundle.file(bundle.graphs[plan].file), threads=threads)
