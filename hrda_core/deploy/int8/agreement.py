"""Does a graph in int8 give the labels of the one in floating point, in the runtime that will run it?

The question has to be asked of every runtime, on the machine: from the very file that ONNX Runtime runs correctly,
OpenVINO on a processor without 8-bit dot products (VNNI) gives another mask (docs/robot/int8.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from hrda_core.errors import BundleError, DataError, require
from hrda_core.inference.backends.onnx_backend import default_threads

__all__ = [
    "Agreement",
    "Masks",
    "Run",
    "compare",
    "measure_agreement",
    "run_in_onnxruntime",
]

UInt8Array = npt.NDArray[np.uint8]
Masks = tuple[UInt8Array, UInt8Array]
"""Labels and confidence, uint8 (1, H, W)."""

Run = Callable[[UInt8Array], Masks]
"""From uint8 (1, H, W, 3) RGB to masks: every `Backend` is one."""


@dataclass(frozen=True)
class Agreement:
    """How alike two graphs are.

    Attributes:
        labels: share of pixels with the same label, 0..1, mean over images.
        worst: the same of the image where it is lowest.
        confidence: mean difference of the confidence, of 255.
        images: how many.
    """

    labels: float
    worst: float
    confidence: float
    images: int


def measure_agreement(run: Run, reference: Run, images: Iterable[UInt8Array]) -> Agreement:
    """Run both on every image and compare.

    Raises:
        DataError: no image.
    """
    return compare((run(image), reference(image)) for image in images)


def compare(pairs: Iterable[tuple[Masks, Masks]]) -> Agreement:
    """Compare what was found with what is wanted.

    Raises:
        DataError: no pair.
    """
    equal, apart = [], []
    for (labels, confidence), (wanted, sure) in pairs:
        equal.append(float((labels == wanted).mean()))
        apart.append(float(np.abs(confidence.astype(np.int16) - sure.astype(np.int16)).mean()))
    if not equal:
        raise DataError("there is no image to compare int8 with floating point on; give some of the target domain")
    return Agreement(float(np.mean(equal)), min(equal), float(np.mean(apart)), len(equal))


def run_in_onnxruntime(model: onnx.ModelProto, *, threads: int = 0) -> Run:
    """A graph in memory as a function, in ONNX Runtime on the CPU.

    Args:
        threads: 0 = all cores but one, at least one.

    Raises:
        BundleError: ONNX Runtime does not take the graph.
        MissingPackageError: onnxruntime is not installed.
    """
    ort = require("onnxruntime", "runtime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(
            model.SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
            # It writes biases as integers with scales that are too small for half precision, and masks come out wrong.
            disabled_optimizers=["WeightBiasQuantization"],
        )
    except Exception as error:  # ONNX Runtime raises classes of its own that are not exported
        reason = str(error).splitlines()[0][:200]
        raise BundleError(f"ONNX Runtime cannot load the graph in int8 ({reason}); export it again") from error

    def run(image: UInt8Array) -> Masks:
        labels, confidence = session.run(["labels", "confidence"], {"image": image})
        return labels, confidence

    return run
