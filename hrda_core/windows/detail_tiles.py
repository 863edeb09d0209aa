"""Fuses HRDA's context with detail that may be missing: some tiles run, elsewhere the context stands alone.

With attention `a`, context logits `c`, detail logits `d_i` of the tiles that run, and their feathered weights `w_i`
(which sum to 1 over all tiles):

    S     = sum of w_i over the tiles that run         1 inside them, 0 where none ran, between along a feathered edge
    fused = up(a) * sum(w_i d_i) + S * up((1 - a) c) + (1 - S) * up(c)

With all tiles, S = 1 and this is the paper's fusion. Where a tile did not run, the plain context counts and not
(1 - a) c, which the attention has made small exactly where detail matters. Shapes are static and nothing leaves the
device, so that the same code traces to an ONNX graph. Needs torch.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.models.hrda import HRDA, ContextOutput, merge_tiles, split_tiles
from hrda_core.window_plan import CropBox, WindowPlan
from hrda_core.windows.feather import crop_weights

__all__ = ["AllTiles", "ChosenTiles", "TileFusion", "one_hot", "place", "tile_scores"]


class TileFusion(nn.Module):
    """Merges and fuses the detail tiles of one window plan.

    Args:
        model: the network; its scales determine the grid of the logits.
        plan: `overlap`, `tiles` or `topk`, for one window: the whole image.

    Attributes:
        count: number of detail tiles of the plan.
        boxes: the tiles, pixels of the padded image.
    """

    weights: Tensor

    def __init__(self, model: HRDA, plan: WindowPlan) -> None:
        super().__init__()
        scale = model.detail_scale / model.stride
        self.boxes = plan.detail
        self.count = len(plan.detail)
        self._fuse = model.fuse
        self._scale = model.detail_scale / model.context_scale
        self._crops = tuple(box.scaled(model.detail_scale) for box in plan.detail)
        self._cells = tuple(box.scaled(scale) for box in plan.detail)
        self._size = CropBox(0, plan.padded_height, 0, plan.padded_width).scaled(scale)
        columns = sum(box.y1 == self.boxes[0].y1 for box in self.boxes)
        self._grid = self.count // columns, columns
        self._disjoint = sum(box.height * box.width for box in self._cells) == self._size.height * self._size.width
        weights = crop_weights(self._cells, (self._size.height, self._size.width), feathered=plan.name != "overlap")
        self.weights = nn.Buffer(torch.stack([torch.from_numpy(part) for part in weights])[:, None], persistent=False)

    def cut(self, image: Tensor) -> Tensor:
        """Cut all detail tiles out of `HRDA.detail_image`: (1, 3, H, W) -> (count, 3, h, w)."""
        if self._disjoint:
            return split_tiles(image, self._grid)
        return torch.cat([image[box.index] for box in self._crops])

    def all_tiles(self, context: ContextOutput, detail: Tensor) -> Tensor:
        """Fuse when every tile ran: detail (count, C, h, w) -> logits (1, C, H/stride, W/stride)."""
        return self._fuse(context, self._merge(detail))

    def some_tiles(self, context: ContextOutput, detail: Tensor, present: Tensor) -> Tensor:
        """Fuse when some tiles ran.

        Args:
            detail: (count, C, h, w); tiles that did not run hold 0.
            present: (count,), 1 for tiles that ran and 0 for the others.
        """
        covered = self._merge(present.view(-1, 1, 1, 1).expand(-1, 1, *detail.shape[2:]))
        attention = _enlarge(context.attention, self._scale)
        shared = _enlarge((1 - context.attention) * context.logits, self._scale)
        alone = _enlarge(context.logits, self._scale)
        return attention * self._merge(detail) + covered * shared + (1 - covered) * alone

    def _merge(self, tiles: Tensor) -> Tensor:
        """Weighted sum of tiles in their places: (count, C, h, w) -> (1, C, H/stride, W/stride)."""
        if self._disjoint:
            return merge_tiles(tiles, self._grid)
        weighted = torch.split(tiles * self.weights, 1)
        # Padding and adding: writing into slices would become scatter operations, which TensorRT likes least.
        placed = [F.pad(tile, _margins(box, self._size)) for tile, box in zip(weighted, self._cells, strict=True)]
        return reduce(torch.add, placed)


class AllTiles(nn.Module):
    """The plans `tiles` and `overlap` for one image: every detail tile runs, in one batch."""

    def __init__(self, model: HRDA, plan: WindowPlan) -> None:
        super().__init__()
        self.model, self.fusion = model, TileFusion(model, plan)

    def forward(self, image: Tensor) -> Tensor:
        """Map a normalised image (1, 3, H, W) to fused logits."""
        crops = self.fusion.cut(self.model.detail_image(image))
        return self.fusion.all_tiles(self.model.context(image), self.model.detail(crops))


class ChosenTiles(nn.Module):
    """The plan `topk` for one image: the context chooses the tiles that run.

    Their number is fixed, and therefore every shape is.
    """

    def __init__(self, model: HRDA, plan: WindowPlan) -> None:
        super().__init__()
        self.model, self.fusion, self.plan = model, TileFusion(model, plan), plan

    def forward(self, image: Tensor) -> Tensor:
        """Map a normalised image (1, 3, H, W) to fused logits."""
        context = self.model.context(image)
        chosen = torch.topk(tile_scores(context, self.plan), self.plan.keep).indices
        crops = self.fusion.cut(self.model.detail_image(image)).index_select(0, chosen)
        ran = one_hot(chosen, self.fusion.count)
        return self.fusion.some_tiles(context, place(ran, self.model.detail(crops)), ran.sum(1))


def tile_scores(context: ContextOutput, plan: WindowPlan) -> Tensor:
    """Rate each tile's detail: attention times uncertainty of the context, averaged over the tile.

    Args:
        context: logits and attention (1, C or 1, h, w) of one image.

    Returns:
        (count,): 0 where the context is certain or the attention gives the detail no weight.
    """
    probs = context.logits.softmax(1)
    mass = (probs * context.attention).sum(1)  # how far the class that is probable would follow the detail
    worth = mass * (1 - probs.amax(1))  # (1, h, w)
    scale = context.logits.shape[2] / plan.padded_height
    return torch.stack([worth[box.scaled(scale).index].mean() for box in plan.detail])


def one_hot(numbers: Tensor, count: int) -> Tensor:
    """Turn int64 (k,) into float32 (count, k): 1 where row and number agree."""
    return (torch.arange(count, device=numbers.device)[:, None] == numbers).to(torch.float32)


def place(ran: Tensor, detail: Tensor) -> Tensor:
    """Put the tiles that ran among all, with 0 elsewhere: (count, k), (k, C, h, w) -> (count, C, h, w)."""
    # A product instead of a scatter: static, and every runtime has it.
    return (ran @ detail.flatten(1)).view(-1, *detail.shape[1:])


def _margins(box: CropBox, size: CropBox) -> tuple[int, int, int, int]:
    return box.x1, size.width - box.x2, box.y1, size.height - box.y2


def _enlarge(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
