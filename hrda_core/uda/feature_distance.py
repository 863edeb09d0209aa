"""Thing-Class ImageNet Feature Distance (paper section 3.3): keep what ImageNet taught the encoder about things.

    L_FD = mean over cells that show a thing class of || F_student - F_imagenet ||_2     (deepest encoder map)

A cell of the feature map shows the class that fills at least 3/4 of its pixels. Reference: spec section 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.errors import RecipeError
from hrda_core.labels import IGNORE_LABEL
from hrda_core.uda.precision import at_least_single
from hrda_core.uda.step import StepContext

__all__ = ["FeatureDistanceConfig", "downscale_labels", "imagenet_features", "thing_feature_distance"]


@dataclass(frozen=True)
class FeatureDistanceConfig:
    """Options of the feature distance in a recipe.

    Attributes:
        weight: lambda_FD; 0 = off. 0.005 in the paper.
        min_share: share of a cell that its class must fill.
        things_only: compare cells of thing classes only; else all cells (an ablation of the paper).
        both_scales: HRDA: also compare the detail crop (the paper does so where context and detail crop are equal).
    """

    weight: float = 0.005
    min_share: float = 0.75
    things_only: bool = True
    both_scales: bool = False

    def __post_init__(self) -> None:
        if self.weight < 0 or not 0 < self.min_share <= 1:
            raise RecipeError(
                f"feature distance needs weight >= 0 and min_share in 0..1, not {self.weight} and {self.min_share}"
            )


def downscale_labels(labels: Tensor, cell: int, min_share: float, num_classes: int) -> Tensor:
    """Find the class of each cell of `cell` x `cell` pixels: the most frequent one if it fills enough of the cell.

    Rows and columns that do not fill a whole cell are left out.

    Args:
        labels: int64 (B, H, W), ids 0..num_classes-1 or `IGNORE_LABEL`.
        cell: pixels along a side.
        min_share: a smaller share of the winner gives `IGNORE_LABEL`, as does a cell whose winner is "ignore".

    Returns:
        int64 (B, H // cell, W // cell).
    """
    batch, height, width = labels.shape[0], labels.shape[1] // cell, labels.shape[2] // cell
    pixels = labels[:, : height * cell, : width * cell].reshape(batch, height, cell, width, cell)
    pixels = pixels.permute(0, 1, 3, 2, 4).reshape(batch, height, width, cell * cell)
    pixels = pixels.masked_fill(pixels == IGNORE_LABEL, num_classes)
    counts = pixels.new_zeros(batch, height, width, num_classes + 1)
    counts.scatter_add_(3, pixels, torch.ones_like(pixels))
    most, winner = counts.max(dim=3)
    unclear = (most < min_share * cell * cell) | (winner == num_classes)
    return winner.masked_fill(unclear, IGNORE_LABEL)


def thing_feature_distance(
    student_map: Tensor,
    imagenet_map: Tensor,
    labels: Tensor,
    things: Sequence[int],
    *,
    num_classes: int,
    min_share: float = 0.75,
    scale: float = 1.0,
    context: StepContext | None = None,
) -> Tensor:
    """Compute the mean distance over the cells that show a thing class; 0 with zero gradient if there is none.

    (The reference logs NaN there; its gradient is zero as well.)

    Args:
        student_map, imagenet_map: (B, C, h, w) of the same images.
        labels: int64 (B, H, W) of these images; a cell has W // w pixels along a side, or, where the encoder's stride
            does not divide the image, the stride of the encoder.
        things: class ids to compare; empty = compare every cell, whatever it shows.
        num_classes: number of classes.
        min_share: share of a cell's pixels that one class needs for the cell to show it.
        scale: factor by which the encoder saw the images resized.
        context: with several processes the mean runs over the cells of all of them.

    Returns:
        scalar with gradient.
    """
    context = context or StepContext()
    difference = at_least_single(student_map - imagenet_map)
    distance = difference.norm(dim=1)  # (B, h, w)
    if things:
        cells = _cells(labels, (student_map.shape[2], student_map.shape[3]), scale, min_share, num_classes)
        mask = torch.isin(cells, torch.as_tensor(things, device=cells.device))
        # A norm of 0 has no gradient: take cells out by index, not by a product with 0.
        distance = distance[mask]
    count = context.reduce(distance.new_tensor(float(distance.numel())))
    mean: Tensor = distance.sum() * (context.processes / count.clamp_min(1))
    return mean


def _cells(labels: Tensor, size: tuple[int, int], scale: float, min_share: float, num_classes: int) -> Tensor:
    """Class of each cell of a map (h, w): int64 (B, h, w)."""
    height, width = labels.shape[1:]
    cell = width // size[1]
    if (height // cell, width // cell) != size:
        # The last row or column of the map reaches beyond the image: what lies there has no class.
        reach = max(height * scale / size[0], width * scale / size[1])
        cell = math.ceil(2 ** math.ceil(math.log2(reach)) / scale)
        beyond = (0, max(0, size[1] * cell - width), 0, max(0, size[0] * cell - height))
        labels = F.pad(labels, beyond, value=IGNORE_LABEL)
    return downscale_labels(labels, cell, min_share, num_classes)[:, : size[0], : size[1]]


@torch.no_grad()
def imagenet_features(encoder: nn.Module, images: Tensor, scale: float) -> Tensor:
    """Return the deepest map of the frozen encoder for normalised images (B, 3, H, W) resized by `scale`."""
    if scale != 1:
        images = F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
    deepest: Tensor = encoder(images)[-1]
    return deepest
