"""Class ids and confidence of images of any size, a band of rows at a time.

A network's logits lie on a grid of a quarter of the image's sides; enlarged to an image of 64 megapixels, those of 19
classes take 4.9 GB. `predict_classes` enlarges one band of rows after the other, averages the windows that meet it,
takes the most probable class, and forgets the band. What is kept of the image is the grid, a sixteenth of that, and two
maps. The result is that of `predict_logits` within rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.errors import RecipeError
from hrda_core.window_plan import CropBox, PlanChoice, WindowPlan
from hrda_core.windows.torch_windows import check_image, plan_for, window_logits

__all__ = ["predict_classes"]

_BAND_VALUES = 4_000_000
"""Logits of a band, all images of the batch together: 16 MB in single precision."""


@torch.no_grad()
def predict_classes(
    model: nn.Module,
    image: Tensor,
    plan: str | PlanChoice = "nested",
    *,
    max_batch: int | None = None,
    band: int | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Predict the most probable class of every pixel.

    Args:
        model, image, plan, max_batch, options: see `predict_logits`.
        band: rows at a time; None = as many as 16 MB of logits hold.

    Returns:
        class ids uint8 (B, H, W), and their probability float32 (B, H, W), 0..1.

    Raises:
        BackendError, ImageError: as `predict_logits`.
        RecipeError: so does this, and `band` is below 1.
    """
    if band is not None and band < 1:
        raise RecipeError(f"band must be 1 row or more, or None, not {band}")
    check_image(model, image)
    batch, _, height, width = image.shape
    cut = plan_for(model, PlanChoice.of(plan, **options), height, width)
    grids = list(window_logits(model, image, cut, max_batch))
    rows = band or max(1, _BAND_VALUES // (batch * grids[0].shape[1] * cut.padded_width))
    labels = torch.empty(batch, height, width, dtype=torch.uint8, device=image.device)
    confidence = torch.empty(batch, height, width, device=image.device)
    for first in range(0, height, rows):
        last = min(first + rows, height)
        logits = _band(cut, grids, first, last)[..., :width].float()
        top, found = logits.max(dim=1)
        labels[:, first:last] = found.to(torch.uint8)
        confidence[:, first:last] = 1 / torch.exp(logits - top[:, None]).sum(dim=1)  # softmax of the winning class
    return labels, confidence


def _band(cut: WindowPlan, grids: Sequence[Tensor], first: int, last: int) -> Tensor:
    """Logits of rows `first` to `last` of the padded image, (B, C, rows, padded width), averaged over the windows."""
    parts = [
        (box, max(first, box.y1), min(last, box.y2), grid)
        for box, grid in zip(cut.windows, grids, strict=True)
        if box.y1 < last and first < box.y2
    ]
    if len(parts) == 1:
        box, top, bottom, grid = parts[0]
        return _rows(grid, box, top, bottom)
    total = grids[0].new_zeros(*grids[0].shape[:2], last - first, cut.padded_width)
    count = total.new_zeros(1, 1, last - first, cut.padded_width)
    for box, top, bottom, grid in parts:
        place = (..., slice(top - first, bottom - first), slice(box.x1, box.x2))
        total[place] += _rows(grid, box, top, bottom)
        count[place] += 1
    return total.div_(count)


def _rows(grid: Tensor, box: CropBox, top: int, bottom: int) -> Tensor:
    """Rows `top` to `bottom` of a window enlarged to its size, bilinearly, with the centres of pixels aligned."""
    height = grid.shape[2]
    at = (torch.arange(top - box.y1, bottom - box.y1, device=grid.device) + 0.5) * (height / box.height) - 0.5
    at = at.clamp_(min=0)
    above = at.floor().long()
    below = (above + 1).clamp_(max=height - 1)
    rows = torch.lerp(grid[:, :, above], grid[:, :, below], (at - above)[:, None].to(grid.dtype))
    if rows.shape[3] == box.width:
        return rows
    return F.interpolate(rows, size=(len(at), box.width), mode="bilinear", align_corners=False)
