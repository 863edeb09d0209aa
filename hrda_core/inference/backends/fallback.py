"""A back end that hands over to ONNX Runtime on the CPU when the GPU, or OpenVINO, fails while the robot drives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hrda_core.errors import BackendError, GpuError
from hrda_core.inference.backends.protocol import Backend, Reason
from hrda_core.inference.say import Level, Say

__all__ = ["FallBackBackend"]


class FallBackBackend:
    """Runs `first` until it fails; that frame and all later ones go to the CPU. It never goes back.

    Args:
        first: a back end on the GPU, or OpenVINO.
        open_cpu: opens the back end that takes over.
        say: takes one line, a warning, when that happens.
        failure: the error that counts as failing. Others are raised: an image that does not fit, for example.
    """

    def __init__(
        self,
        first: Backend,
        open_cpu: Callable[[], Backend],
        say: Say,
        failure: type[BackendError] = GpuError,
    ) -> None:
        self._backend, self._open_cpu, self._say, self._failure = first, open_cpu, say, failure
        self._handed_over = False
        self.info = first.info

    @property
    def takes_batch(self) -> bool:
        """See `Backend.takes_batch`; of the back end that is in use."""
        return self._backend.takes_batch

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """See `Backend.__call__`.

        Raises:
            BackendError: the input does not fit.
        """
        if self._handed_over:
            return self._backend(image)
        try:
            return self._backend(image)
        except self._failure as error:
            self._take_over(str(error))
        return self._backend(image)

    @property
    def running(self) -> Backend:
        """Return the back end that is in use."""
        return self._backend

    def close(self) -> None:
        """Free the memory of the back end that is in use."""
        self._backend.close()

    def _take_over(self, reason: str) -> None:
        failed = self._backend
        who = "the GPU" if failed.info.device == "cuda" else failed.info.name
        self._backend = self._open_cpu()
        self._handed_over = True
        self.info = self._backend.info.because(Reason(f"{who} failed", reason))
        self._say(f"{reason}; from now on {self._backend.info}", Level.WARNING)
        failed.close()
