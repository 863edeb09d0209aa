"""What a user can ask of OpenVINO."""

from __future__ import annotations

from dataclasses import dataclass

from hrda_core.errors import BackendError

__all__ = ["DEVICES", "INFERENCE_PRECISIONS", "OpenVinoOptions"]

DEVICES = ("CPU", "GPU", "NPU")
"""Kinds of devices, as OpenVINO calls them. `GPU` is Intel's, `NPU` the neural processor of an Intel Core Ultra."""

INFERENCE_PRECISIONS = ("f32", "bf16", "f16")
"""Number formats of the computation. Those of two bytes round: how many classes stay the same is measured."""


@dataclass(frozen=True)
class OpenVinoOptions:
    """Device and number format of the computation.

    Attributes:
        device: one of `DEVICES`.
        precision: one of `INFERENCE_PRECISIONS`.

    Raises:
        BackendError: one of them is unknown.
    """

    device: str = "CPU"
    precision: str = "f32"

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise BackendError(f"device '{self.device}' is not known; choose one of {', '.join(DEVICES)}")
        if self.precision not in INFERENCE_PRECISIONS:
            choices = ", ".join(INFERENCE_PRECISIONS)
            raise BackendError(f"inference precision '{self.precision}' is not known; choose one of {choices}")
