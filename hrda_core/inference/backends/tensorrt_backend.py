"""TensorRT: the back end for NVIDIA GPUs. It needs an engine built on this machine: see docs/robot/tensorrt.md."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hrda_core.inference.backends.tensorrt_engines import open_engine
from hrda_core.inference.bundle import Bundle, GraphSpec
from hrda_core.inference.tensorrt.builder import BuildOptions

__all__ = ["TensorRTBackend"]


class TensorRTBackend:
    """The stored engine of one graph, for images of the engine's size.

    It is not thread-safe: use it from one caller at a time.

    Args:
        graph: a graph of the bundle for one size, or for any size, with `options.image_size`.
        options: options with which the engine was built.

    Raises:
        GpuError, MissingPackageError, BackendError: see `open_engine`.
    """

    def __init__(self, bundle: Bundle, graph: GraphSpec, options: BuildOptions | None = None) -> None:
        engine = open_engine(bundle, graph, options)
        self._runner = engine.runner
        self.info = engine.info

    @property
    def takes_batch(self) -> bool:
        """An engine is built for one image."""
        return False

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """See `Backend.__call__`.

        Raises:
            BackendError: another size than the engine's, or the back end was closed.
            GpuError: the GPU failed.
        """
        return self._runner.run(image)

    def layer_seconds(self, runs: int) -> dict[str, float]:
        """Return the seconds of each layer by name, for `hrda bench`."""
        return self._runner.time_layers(runs)

    def run_seconds(self, runs: int) -> float:
        """Return the seconds of a frame without copies, for `hrda bench`."""
        return self._runner.time_runs(runs)

    def close(self) -> None:
        """Free the GPU's memory; safe to call twice. Afterwards the back end cannot be called."""
        self._runner.close()
