"""Chooses the camera's rate for this machine and model by timing one inference before anything is played."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrda_core.inference import Predictor

__all__ = ["choose_rate", "measure_inference_s"]

MAX_RATE_HZ = 10.0
BUSY_SHARE = 0.6
"""Share of a period that the inference may take, so that decoding, overlay, recorder and player find room beside it."""
MAX_PLAYING_S = 60.0
"""A slow model is not waited for: the camera then outruns it, and the node drops frames as it would on a robot."""
REPEATS = 5


def measure_inference_s(model: Path, rgb: npt.NDArray[np.uint8]) -> float:
    """Measure the median duration of one inference on this frame, seconds.

    Raises:
        HrdaError: the bundle or its back end cannot be used.
    """
    predictor = Predictor(model)
    predictor(rgb)
    durations = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        predictor(rgb)
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def choose_rate(inference_s: float, frames: int) -> float:
    """Return the frames a second: what the node can follow, at most `MAX_RATE_HZ`.

    The rate is higher if playing would otherwise take longer than `MAX_PLAYING_S`.
    """
    return max(min(MAX_RATE_HZ, BUSY_SHARE / inference_s), frames / MAX_PLAYING_S)
