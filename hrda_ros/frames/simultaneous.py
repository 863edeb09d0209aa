"""Images of several cameras in one run of the back end: which belong together, and how each of them ends. Needs no ROS.

Each frame is a generator of its steps, see `Steps`, so that it goes the same way alone and with others: it gives the
picture, gets the masks, and returns the durations of its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hrda_core.errors import BackendError
from hrda_core.inference import Prediction
from hrda_ros.frames.pipeline import Ending, ending_of
from hrda_ros.model.segmenter import Segmenter

__all__ = ["Steps", "alone", "check_batch", "stamps_within", "together"]

Picture: TypeAlias = "npt.NDArray[np.uint8]"
Steps: TypeAlias = "Generator[Picture, Prediction, Mapping[str, float]]"
"""Yields the picture uint8 (H, W, 3), takes its masks, and returns durations, seconds by name."""


def stamps_within(slop_s: float) -> Callable[[Any, Any], bool]:
    """Return whether the stamps of two messages differ by at most so many seconds, as a function of the messages."""
    slop_ns = round(1e9 * slop_s)

    def belong(first: Any, second: Any) -> bool:
        a, b = first.header.stamp, second.header.stamp
        return bool(abs((a.sec - b.sec) * 10**9 + a.nanosec - b.nanosec) <= slop_ns)

    return belong


def check_batch(slop_s: float, segmenter: Segmenter) -> None:
    """Refuse and close a model that takes one image at a time, where those of several cameras shall run together.

    Args:
        slop_s: `batch_slop_s`, above 0, seconds.
        segmenter: the model, after its warm-up.

    Raises:
        BackendError: its graph takes one image at a time.
    """
    if not segmenter.takes_batch:
        plan, backend = segmenter.plan, segmenter.backend_description
        segmenter.close()
        raise BackendError(
            f"batch_slop_s is {slop_s:g}, but the graph of plan '{plan}' takes one image at a time ({backend}); set "
            f"batch_slop_s to 0, or export the bundle again: its graphs for any image size then take several with ONNX "
            f"Runtime"
        )


def alone(steps: Steps, predict: Callable[[Picture], Prediction]) -> Mapping[str, float]:
    """Run the steps of one frame; return the durations, and raise what goes wrong."""
    picture = next(steps)
    try:
        prediction = predict(picture)
    except BaseException as error:
        return _last(steps, error)
    return _last(steps, prediction)


def together(
    frames: Sequence[Steps],
    predict: Callable[[Picture], Prediction],
    predict_all: Callable[[Sequence[Picture]], Sequence[Prediction]],
) -> list[Ending]:
    """Run the steps of several frames, with one run of the back end for the pictures of each size.

    Whatever happens to one frame, the others go on: where a run of several pictures fails, each is run alone.

    Args:
        frames: the steps of each.
        predict: masks of one picture.
        predict_all: masks of pictures of one size.

    Returns:
        how each frame ended, in their order.
    """
    endings: dict[int, Ending] = {}
    by_size: dict[tuple[int, ...], dict[int, Picture]] = {}
    for place, steps in enumerate(frames):
        begun = _begun(steps)
        if isinstance(begun, Ending):
            endings[place] = begun
        else:
            by_size.setdefault(begun.shape, {})[place] = begun
    for pictures in by_size.values():
        found = _masks(list(pictures.values()), predict, predict_all)
        for place, answer in zip(pictures, found, strict=True):
            endings[place] = ending_of(_ended(frames[place], answer))
    return [endings[place] for place in range(len(frames))]


def _begun(steps: Steps) -> Picture | Ending:
    """The picture, or how the frame ended before there was one."""
    try:
        return next(steps)
    except BaseException as error:
        return ending_of(_raising(error))


def _masks(
    pictures: Sequence[Picture],
    predict: Callable[[Picture], Prediction],
    predict_all: Callable[[Sequence[Picture]], Sequence[Prediction]],
) -> list[Prediction | BaseException]:
    if len(pictures) > 1:
        try:
            return list(predict_all(pictures))
        except Exception:  # alone, each gets its masks or its own error
            return [_masks([picture], predict, predict_all)[0] for picture in pictures]
    try:
        return [predict(pictures[0])]
    except BaseException as error:  # it goes into the steps, which end with it
        return [error]


def _ended(steps: Steps, answer: Prediction | BaseException) -> Callable[[], Mapping[str, float]]:
    return lambda: _last(steps, answer)


def _raising(error: BaseException) -> Callable[[], Mapping[str, float]]:
    def fail() -> Mapping[str, float]:
        raise error

    return fail


def _last(steps: Steps, answer: Prediction | BaseException) -> Mapping[str, float]:
    """Give the steps their masks, or the error that came in place of them; return the durations."""
    try:
        if isinstance(answer, BaseException):
            steps.throw(answer)
        else:
            steps.send(answer)
    except StopIteration as end:
        durations: Mapping[str, float] = end.value
        return durations
    raise AssertionError("the steps of a frame have one picture")
