"""The interface of every inference back end, and its description of itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Backend", "BackendInfo", "Reason"]

_NAMES = {"openvino": "OpenVINO", "tensorrt": "TensorRT"}


@dataclass(frozen=True)
class Reason:
    """A reason why something faster does not run: `what` does not, and `why`."""

    what: str
    why: str


@dataclass(frozen=True)
class BackendInfo:
    """What runs where. Its text is one line for people, for logs and diagnostics.

    Attributes:
        kind: `onnxruntime`, `openvino`, `tensorrt` or `torch`.
        version: version of that package.
        device: `cpu`, `cuda`, or (OpenVINO) `gpu` or `npu`.
        gpu: name of the GPU or NPU; empty on the CPU.
        threads: CPU threads of one inference; 0 on other devices.
        precision: number format of the computation; empty where it is the graph's.
        details: further words, such as `CUDA graph`.
        reasons: why nothing faster runs, each cause once.
    """

    kind: str
    version: str
    device: str = "cpu"
    gpu: str = ""
    threads: int = 0
    precision: str = ""
    details: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()

    def because(self, *reasons: Reason) -> BackendInfo:
        """Return the same with further reasons, without those whose cause is listed already."""
        told = list(self.reasons)
        for reason in reasons:
            if reason.why not in [known.why for known in told]:
                told.append(reason)
        return replace(self, reasons=tuple(told))

    @property
    def name(self) -> str:
        """Return the name of the runtime, for sentences."""
        return _NAMES.get(self.kind, self.kind)

    @property
    def what(self) -> str:
        """Return in words what runs where, without the reasons, for records."""
        place = "CPU" if self.device == "cpu" else f"{self.device.upper()} on {self.gpu}"
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}" if self.threads else ""
        parts = [f"{self.name} {self.version} {place}", threads, self.precision, *self.details]
        return ", ".join(part for part in parts if part)

    def __str__(self) -> str:
        return "; ".join([self.what, *(f"{reason.what}: {reason.why}" for reason in self.reasons)])


class Backend(Protocol):
    """Runs one graph of one bundle: image in, masks out. It is not thread-safe: use it from one caller at a time."""

    info: BackendInfo
    """What runs where, and why nothing faster."""

    @property
    def takes_batch(self) -> bool:
        """Whether one call takes several images."""
        ...

    def __call__(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Segment one padded image, or several.

        Args:
            image: uint8 (B, H, W, 3) RGB, C-contiguous; the graph's size, or multiples of the bundle's `multiple_of`. B
                is 1 unless it `takes_batch`.

        Returns:
            class ids and confidence, each uint8 (B, H, W); confidence is the winning probability times 255.
        """
        ...

    def close(self) -> None:
        """Free the memory that the back end holds. Afterwards it cannot be called."""
        ...
