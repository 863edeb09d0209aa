"""A back end on the GPU that hands over to ONNX Runtime on the CPU when the GPU fails while the robot drives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hrda_core.errors import GpuError
from hrda_core.inference.backends.protocol import Backend, Reason
from hrda_core.inference.say import Level, Say

__all__ = ["FallBackBackend"]


class FallBackBackend:
    """Runs `first` until it raises `GpuError`; that frame and all later ones go to the CPU. It never goes back.

    Args:
        first: a back end on the GPU.
        open_cpu: opens the back end that takes over.
        say: takes one line, a warning, when that happens.
    """

    def __init__(self, first: Backend, open_cpu: Callable[[], Backend], say: Say) -> None:
        self._backend, self._open_cpu, self._say = first, open_cpu, say
        self.info = first.info

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """See `Backend.__call__`.

        Raises:
            BackendError: the input does not fit.
        """
        try:
            return self._backend(image)
        except GpuError as error:
            self._take_over(str(error))
        return self._backend(image)

    def close(self) -> None:
        """Free the memory of the back end that is in use."""
        self._backend.close()

    def _take_over(self, reason: str) -> None:
        failed = self._backend
        self._backend = self._open_cpu()
        self.info = self._backend.info.because(Reason("the GPU failed", reason))
        self._say(f"{reason}; from now on {self._backend.info}", Level.WARNING)
        failed.close()
