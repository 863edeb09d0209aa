"""Checks, at the build and at every load, that what was built gives the labels that ONNX Runtime gives on the CPU.

That is a TensorRT engine, or a model that OpenVINO compiled. It can be read without an error and still compute
something else, because of a kernel that is wrong on this device, a precision that overflows, or a driver update.
Therefore one image, and the reference for it, are stored beside it.

Only pixels count to which the reference gives one class more than half of the probability. On the others two classes
may be nearly equal, and any rounding picks one or the other: `hrda_lite` in half precision differs from itself in
single on 0.02 to 0.2 % of all pixels of a street image, and on 0.003 % at most of those that count.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from hrda_core.errors import BackendError

__all__ = ["MAX_CONFIDENCE_DIFFERENCE", "MIN_EQUAL_LABELS", "check_golden", "make_golden"]

MIN_EQUAL_LABELS = {"fp32": 0.999, "fp16": 0.999, "bf16": 0.99, "int8": 0.99}
"""Share of the pixels that count with the reference's class id, by precision of the graph or of the computation."""

MAX_CONFIDENCE_DIFFERENCE = {"fp32": 2.0, "fp16": 2.0, "bf16": 8.0, "int8": 8.0}
"""Mean difference of the confidence from the reference, of 255."""

UInt8Array: TypeAlias = "npt.NDArray[np.uint8]"
_HALF = 128  # of 255
_ENOUGH = 0.1


def make_golden(image: UInt8Array, labels: UInt8Array, confidence: UInt8Array) -> bytes:
    """Pack an image, uint8 (1, H, W, 3), and the masks that ONNX Runtime gives for it, uint8 (1, H, W) each."""
    file = io.BytesIO()
    np.savez_compressed(file, feed_image=image, labels=labels, confidence=confidence)
    return file.getvalue()


def check_golden(
    golden: bytes,
    run: Callable[[UInt8Array], tuple[UInt8Array, UInt8Array]],
    precision: str,
    *,
    subject: str = "the engine",
) -> float:
    """Run the stored image and compare.

    Args:
        golden: bytes of `make_golden`, whose hash has been checked.
        run: image to labels and confidence.
        precision: key of `MIN_EQUAL_LABELS`.
        subject: what is checked, for the sentence of the error.

    Returns:
        share of the counted pixels that have the reference's class id, 0..1.

    Raises:
        BackendError: the share is too low, or the confidence too far off.
    """
    with np.load(io.BytesIO(golden), allow_pickle=False) as stored:
        image, labels, confidence = stored["feed_image"], stored["labels"], stored["confidence"]
    found_labels, found_confidence = run(image)
    decided = confidence >= _HALF
    if decided.mean() < _ENOUGH:
        decided = np.ones_like(decided)
    equal = float((found_labels == labels)[decided].mean())
    off = float(np.abs(found_confidence.astype(np.int16) - confidence.astype(np.int16)).mean())
    if equal < MIN_EQUAL_LABELS[precision]:
        raise BackendError(
            f"{subject} gives other labels than ONNX Runtime: {equal:.2%} of the clear pixels are equal, expected at "
            f"least {MIN_EQUAL_LABELS[precision]:.1%} for {precision}; use another precision, or backend 'onnx'"
        )
    if off > MAX_CONFIDENCE_DIFFERENCE[precision]:
        raise BackendError(
            f"{subject} gives another confidence than ONNX Runtime: {off:.1f} of 255 away in the mean, expected at "
            f"most {MAX_CONFIDENCE_DIFFERENCE[precision]:.0f} for {precision}; use another precision, or backend 'onnx'"
        )
    return equal
