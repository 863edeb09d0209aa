"""Does a graph in int8 give the labels of the one in floating point, in the runtime that will run it?

The question has to be asked of every runtime, on the machine: from the very file that ONNX Runtime runs correctly,
OpenVINO on a processor without 8-bit dot products (VNNI) gives another mask (docs/robot/int8.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from hrda_core.errors import DataError
from hrda_core.inference.backends.onnx_backend import OnnxBackend, default_threads

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
    with tempfile.TemporaryDirectory(prefix="hrda_int8_") as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(model, path)
        return OnnxBackend(path, threads=threads or default_threads())
