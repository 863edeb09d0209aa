"""MinEnt: confident predictions on target images (ADVENT, arXiv 1811.12833, section 3.1).

    E = -1 / log(C) * sum over classes of p log p          in 0..1 at each pixel;  loss = 0.001 * mean over pixels

It is a baseline of the HRDA paper (table "HRDA with other UDA methods"). Reference: spec section 6.
"""

from __future__ import annotations

import math

from torch import Tensor

from hrda_core.uda.precision import at_least_single

__all__ = ["entropy_loss"]


def entropy_loss(logits: Tensor) -> Tensor:
    """Compute the normalised Shannon entropy of the softmax, averaged over the pixels of the batch; not weighted.

    Args:
        logits: (B, C, H, W), C 2 or more.

    Returns:
        scalar with gradient: 0 = certain everywhere, 1 = all classes equally likely everywhere.
    """
    log_probs = at_least_single(logits).log_softmax(1)
    return -(log_probs.exp() * log_probs).sum(1).mean() / math.log(logits.shape[1])
