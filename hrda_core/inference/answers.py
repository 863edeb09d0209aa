"""Judges whether a graph answers like a model: at load against what its bundle recorded, and with every image.

The graphs give bytes, in which a NaN cannot be seen. It can be told all the same: the winning one of C classes has a
probability of at least 1/C, which is never 0 of 255 for up to 255 classes, and a NaN that is cast to a byte is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hrda_core.errors import AnswerError
from hrda_core.inference.made_image import golden_image

__all__ = ["Answer", "check_answer", "prove", "prove_batch", "record_answer"]

UInt8Array: TypeAlias = "npt.NDArray[np.uint8]"
Run: TypeAlias = "Callable[[UInt8Array], tuple[UInt8Array, UInt8Array]]"
"""From an image uint8 (1, H, W, 3) to class ids and confidence, uint8 (1, H, W) each."""

_ROWS, _COLUMNS = 12, 16
_HALF, _ENOUGH = 128, 0.1
_MIN_EQUAL = 0.9
_MAX_CONFIDENCE_DIFFERENCE = 16.0
"""In the mean, of 255. Other processors and precisions move it by one or two; another model moves it by dozens."""


@dataclass(frozen=True)
class Answer:
    """What a graph gave for the made image when it was written, on a grid of 12 x 16 pixels.

    Attributes:
        labels, confidence: uint8 (12, 16).
    """

    labels: UInt8Array
    confidence: UInt8Array

    @property
    def is_constant(self) -> bool:
        """Whether every pixel got the same, as of a network that has learnt next to nothing."""
        return _one_value(self.labels) and _one_value(self.confidence)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Answer:
        """Read the entry of a manifest.

        Raises:
            KeyError, TypeError, ValueError: a key is missing, or its value makes no sense.
        """
        return cls(_unpacked(values["labels"]), _unpacked(values["confidence"]))

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of the manifest."""
        return {"labels": self.labels.tobytes().hex(), "confidence": self.confidence.tobytes().hex()}


def record_answer(run: Run, size: tuple[int, int], classes: int) -> Answer:
    """Return what a graph gives for the made image of a size.

    Raises:
        AnswerError: it is not finite, or are no masks; see `check_answer`.
    """
    image = golden_image(*size)
    labels, confidence = run(image)
    check_answer(labels, confidence, image, classes, may_be_constant=True)
    return Answer(_sampled(labels), _sampled(confidence))


def prove(run: Run, size: tuple[int, int], classes: int, recorded: Answer | None) -> None:
    """Let a graph segment the made image, and judge the answer.

    Args:
        run: the graph in its back end.
        size: height and width of the made image, pixels; see `GraphSpec.made_size`.
        classes: number of classes of the label space.
        recorded: what the bundle says that the answer is; None where an older release wrote the bundle.

    Raises:
        AnswerError: the answer has another shape or type than masks, is not finite, has ids without a class, says the
            same of every pixel (where nothing is recorded), or is not the one that was recorded.
    """
    image = golden_image(*size)
    labels, confidence = run(image)
    check_answer(labels, confidence, image, classes, may_be_constant=True)
    found = Answer(_sampled(labels), _sampled(confidence))
    if recorded is not None:
        _compare(recorded, found)
    elif found.is_constant and (classes > 2 or (classes == 2 and confidence.flat[0] != 255)):  # of two it can be sure
        raise AnswerError(
            f"it gives class {labels.flat[0]} with confidence {confidence.flat[0]} for every pixel of a picture with a "
            f"sky and a road",
            "non_finite",
        )


def prove_batch(run: Run, size: tuple[int, int]) -> None:
    """Let a graph that takes several images segment the made image and its reflection, together and alone.

    Args:
        run: the graph in its back end.
        size: height and width of the made image, pixels.

    Raises:
        AnswerError: an image gets other masks together with another one: those of one camera could be another one's.
    """
    image = golden_image(*size)
    images = np.concatenate([image, image[:, ::-1]])
    together, _ = run(images)
    alone = np.concatenate([run(np.ascontiguousarray(each[None]))[0] for each in images])
    if together.shape != alone.shape or ((together == alone).mean(axis=(1, 2)) < _MIN_EQUAL).any():
        raise AnswerError("it gives an image other masks when another one goes through with it", "malformed")


def check_answer(
    labels: Any, confidence: Any, image: UInt8Array, classes: int, *, may_be_constant: bool = False
) -> None:
    """Check the masks of one image.

    Args:
        labels, confidence: what should be class ids and confidence, uint8 (1, H, W) each.
        image: uint8 (1, H, W, 3), what the graph got.
        classes: number of classes of the label space.
        may_be_constant: take the same answer for all pixels of a picture that has several colours. Full confidence may
            always be the same: a model of two classes can rightly be sure that one of them is nowhere.

    Raises:
        AnswerError: they are not; its `cause` is `malformed`, or `non_finite`, which stands for constant answers too.
    """
    for name, array in (("labels", labels), ("confidence", confidence)):
        found = (getattr(array, "dtype", type(array).__name__), getattr(array, "shape", ()))
        if found != (np.uint8, image.shape[:3]):
            raise AnswerError(
                f"its {name} are {found[0]} {found[1]}, expected uint8 {image.shape[:3]} for this image", "malformed"
            )
    if (highest := int(labels.max())) >= classes:
        raise AnswerError(f"it gives the class id {highest}, and the label space has {classes} classes", "malformed")
    if not confidence.all():
        share = float((confidence == 0).mean())
        raise AnswerError(
            f"its confidence is 0 for {share:.1%} of the pixels, which no probability of a winning class can be: the "
            f"network gives values that are not finite",
            "non_finite",
        )
    if may_be_constant or classes == 1 or confidence.flat[0] == 255:
        return
    if _one_value(confidence) and _one_value(labels) and not _flat(image):
        raise AnswerError(
            f"it gives class {labels.flat[0]} with confidence {confidence.flat[0]} for every pixel of a picture that "
            f"has several colours",
            "non_finite",
        )


def _compare(recorded: Answer, found: Answer) -> None:
    clear = recorded.confidence >= _HALF  # on the others any rounding picks one class or the other
    if clear.mean() < _ENOUGH:
        clear = np.ones_like(clear)
    equal = float((found.labels == recorded.labels)[clear].mean())
    off = float(np.abs(found.confidence.astype(int) - recorded.confidence.astype(int)).mean())
    if equal < _MIN_EQUAL or off > _MAX_CONFIDENCE_DIFFERENCE:
        raise AnswerError(
            f"its answer to the made image is not the one that the manifest records: {equal:.0%} of the clear pixels "
            f"have the same class (expected {_MIN_EQUAL:.0%}), the confidence is {off:.0f} of 255 away (expected at "
            f"most {_MAX_CONFIDENCE_DIFFERENCE:.0f})",
            "other_answer",
        )


def _sampled(mask: UInt8Array) -> UInt8Array:
    """The middle pixels of 12 x 16 equal parts of a mask (1, H, W)."""
    height, width = mask.shape[1:]
    rows, columns = (
        (np.arange(count) * 2 + 1) * length // (2 * count) for count, length in ((_ROWS, height), (_COLUMNS, width))
    )
    return np.ascontiguousarray(mask[0][np.ix_(rows, columns)])


def _unpacked(text: Any) -> UInt8Array:
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(_ROWS, _COLUMNS)


def _one_value(mask: UInt8Array) -> bool:
    return bool(mask.min() == mask.max())


def _flat(image: UInt8Array) -> bool:
    return bool((image == image[:, :1, :1]).all())
