"""ClassMix: paste half of the classes of a source image onto a target image (paper section 3.1, "self-training").

Reference: spec section 8.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["class_mask", "draw_classes", "mix"]


def draw_classes(candidates: npt.NDArray[np.int64], rng: np.random.RandomState) -> npt.NDArray[np.int64]:
    """Draw half of the classes, rounded up, without replacement.

    Args:
        candidates: ids that occur in the labels of the whole source batch, ascending. As in the reference this
            includes "ignore" (255) if it occurs.
    """
    count = (len(candidates) + 1) // 2
    return np.asarray(candidates[rng.choice(len(candidates), count, replace=False)], np.int64)


def class_mask(labels: Tensor, classes: npt.NDArray[np.int64]) -> Tensor:
    """Mark where a label map (H, W) shows one of the classes: bool (H, W), which may be False everywhere."""
    chosen = torch.zeros(256, dtype=torch.bool, device=labels.device)
    chosen[torch.from_numpy(classes).to(labels.device)] = True
    return chosen[labels]


def mix(mask: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Take the source where `mask` (bool (B, H, W)) is True and the target elsewhere.

    The inputs are images (B, C, H, W) or maps (B, H, W).
    """
    return torch.where(mask[:, None] if source.ndim == 4 else mask, source, target)
