"""TensorRT: the back end for NVIDIA GPUs. It needs an engine built on this machine: see docs/robot/tensorrt.md."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hrda_core.inference.backends.tensorrt_engines import open_engine
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.inference.tensorrt.builder import BuildOptions

__all__ = ["TensorRTBackend"]


class TensorRTBackend:
    """The stored engine of one graph. Images must have the engine's size. Not thread-safe: one caller at a time.

    Args:
        graph: one of the bundle's, of one size; or of any size, with `options.image_size`.
        options: those that the engine was built with.

    Raises:
        GpuError, MissingPackageError, BackendError: see `open_engine`.
    """

    def __init__(self, bundle: Bundle, graph: GraphSpec, options: BuildOptions | None = None) -> None:
        engine = open_engine(bundle, graph, options)
        self._runner = engine.runner
        self.info = engine.info

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """See `Backend.__call__`.

        Raises:
            BackendError: another size than the engine's, or the back end was closed.
            GpuError: the GPU failed.
        """
        return self._runner.run(image)

    def layer_seconds(self, runs: int) -> dict[str, float]:
        """Seconds of each layer by name, for `hrda bench`."""
        return self._runner.time_layers(runs)

    def run_seconds(self, runs: int) -> float:
        """Seconds of a frame without copies, for `hrda bench`."""
        return self._runner.time_runs(runs)

    def close(self) -> None:
        """Free the GPU's memory; safe to call twice. Afterwards the back end cannot be called."""
        self._runner.close()
