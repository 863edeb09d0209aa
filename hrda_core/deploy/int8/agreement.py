"""Measures whether an int8 graph gives the labels of the floating point graph in the runtime that will run it.

This has to be measured in every runtime, on the machine: from the very file that ONNX Runtime runs correctly, OpenVINO
on a processor without 8-bit dot products (VNNI) gives another mask (docs/robot/int8.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from hrda_core.errors import DataError
from hrda_core.inference.backends.onnx_backend import OnnxBackend, default_threads
from hrda_core.scratch import scratch_folder

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
    """The agreement of two graphs.

    Attributes:
        labels: share of pixels with the same label, 0..1, mean over images.
        worst: the same for the image where it is lowest.
        confidence: mean difference of the confidence, 0..255.
        images: number of images.
    """

    labels: float
    worst: float
    confidence: float
    images: int


def measure_agreement(run: Run, reference: Run, images: Iterable[UInt8Array]) -> Agreement:
    """Run both graphs on every image and compare.

    Raises:
        DataError: there is no image.
    """
    return compare((run(image), reference(image)) for image in images)


def compare(pairs: Iterable[tuple[Masks, Masks]]) -> Agreement:
    """Compare results with the expected ones.

    Raises:
        DataError: there is no pair.
    """
    equal, apart = [], []
    for (labels, confidence), (wanted, sure) in pairs:
        equal.append(float((labels == wanted).mean()))
        apart.append(float(np.abs(confidence.astype(np.int16) - sure.astype(np.int16)).mean()))
    if not equal:
        raise DataError("there is no image to compare int8 with floating point on; give some of the target domain")
    return Agreement(float(np.mean(equal)), min(equal), float(np.mean(apart)), len(equal))


def run_in_onnxruntime(model: onnx.ModelProto, *, threads: int = 0) -> Run:
    """Return a graph in memory as a function that ONNX Runtime runs on the CPU.

    Args:
        threads: CPU threads; 0 = all cores but one, at least one.

    Raises:
        BundleError: ONNX Runtime refuses the graph.
        MissingPackageError: onnxruntime is not installed.
    """
    with scratch_folder("int8") as folder:
        path = folder / "graph.onnx"
        onnx.save(model, path)
        return OnnxBackend(path, threads=threads or default_threads())
