"""Finds the pixels of a frame near the seams between tiles, the same ones for every arm of plan_costs.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hrda_core.labels import IGNORE_LABEL
from hrda_core.metrics import BOUNDARY_TOLERANCE

__all__ = ["near", "only_near"]

UInt8Array = npt.NDArray[np.uint8]


def near(size: Sequence[int], seams: Sequence[int], within: int) -> npt.NDArray[np.bool_]:
    """Return a mask, bool (H, W): True on the `within` rows and columns beside a horizontal and a vertical seam.

    Args:
        size: H and W, pixels.
        seams: first row below the horizontal seam, first column right of the vertical one.
    """
    rows, columns = (np.abs(np.arange(side) + 0.5 - seam) < within for side, seam in zip(size, seams, strict=True))
    return np.asarray(rows[:, None] | columns, np.bool_)


def only_near(labels: UInt8Array, seams: Sequence[int], within: int) -> UInt8Array:
    """Return labels, uint8 (H, W), for which `Boundaries` judges the pixels near the seams alone.

    The arguments are those of `near`.
    """
    # Boundaries leaves out what is closer to unlabelled pixels than its tolerance.
    margin = math.floor(BOUNDARY_TOLERANCE * math.hypot(*labels.shape))
    return np.where(near(labels.shape, seams, within + margin), labels, np.uint8(IGNORE_LABEL))
