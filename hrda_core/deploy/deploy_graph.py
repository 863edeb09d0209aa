"""The network of one window plan from camera bytes to class ids, as a module that traces to an ONNX graph.

    uint8 NHWC -> normalise -> context, detail tiles, fusion -> logits -> enlarge -> class ids, confidence (uint8)

`DeployGraph` with a grid serves any image size; `static_graph` fixes the size, which allows tiles that overlap, tiles
chosen by the context (`topk`), and everything that needs constant shapes. Logits are enlarged a band of rows at a time,
so that those of a large image are never in memory as a whole. Needs torch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.errors import BackendError
from hrda_core.models.hrda import HRDA
from hrda_core.models.segmenter import Segmenter
from hrda_core.window_plan import GRAPH_PLANS, PlanChoice, WindowPlan
from hrda_core.windows.detail_tiles import AllTiles, ChosenTiles

__all__ = ["BAND_PIXELS", "DeployGraph", "static_graph"]

BAND_PIXELS = 1 << 21
"""Pixels of a band of rows, about: those of an image of 1920 x 1080, whose logits in 19 classes take 160 MB."""

_BANDS = 4
"""Bands of a graph for any size. Their number is part of a graph, since loaders refuse loops, and more of them save
little beside the encoder's maps and cost time on small images."""

Triple = tuple[float, ...]


class DeployGraph(nn.Module):
    """Maps camera bytes to class ids and confidence.

    Args:
        network: network whose modules `logits` runs; kept so that its weights belong to this module.
        logits: normalised image (1, 3, H, W) -> logits (1, C, h, w).
        factor: scale factor from the grid of the logits to the image.
        mean, std: normalisation, RGB on the 0..255 scale.
        bands: number of bands of rows in which the logits are enlarged, one after the other; the same masks, with less
            memory. More than one only with a whole `factor`.
    """

    def __init__(
        self,
        network: nn.Module,
        logits: Callable[[Tensor], Tensor],
        factor: float,
        mean: Triple,
        std: Triple,
        bands: int = 1,
    ) -> None:
        super().__init__()
        self.network = network
        self._logits, self._factor, self._bands = logits, factor, bands
        self.mean = nn.Buffer(torch.tensor(mean).view(1, 3, 1, 1))
        self.std = nn.Buffer(torch.tensor(std).view(1, 3, 1, 1))

    @classmethod
    def for_any_size(cls, model: HRDA | Segmenter, choice: PlanChoice, mean: Triple, std: Triple) -> DeployGraph:
        """Build the graph of `tiles` (disjoint, with a grid), `context` or `whole`."""
        logits, factor = _logits_of_any_size(model, choice)
        return cls(model, logits, factor, mean, std, _BANDS if factor == int(factor) else 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map an image uint8 (1, H, W, 3) RGB to class ids and confidence, uint8 (1, H, W) each."""
        return self.finish(self._logits(self.normalise(image)))

    def normalise(self, image: Tensor) -> Tensor:
        """Normalise an image: uint8 (1, H, W, 3) -> float32 (1, 3, H, W)."""
        # Cast before transposing: TensorRT accepts no other operation on 8-bit integers.
        pixels = image.to(torch.float32).permute(0, 3, 1, 2)
        return (pixels - self.mean) / self.std

    def finish(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Turn logits (1, C, h, w) into class ids and confidence of the image, uint8 (1, H, W)."""
        labels, confidence = self._in_bands(logits)
        # Cast at the very end: TensorRT accepts no other operation on 8-bit integers.
        return _to_uint8(labels), _to_uint8(confidence)

    def _in_bands(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        if self._bands == 1:
            return self._classes(logits)
        # Bands meet at the centres of the grid's rows: bilinear enlarging reads no row beyond them.
        factor, last = int(self._factor), logits.shape[2] - 1
        centres = [last * number // self._bands for number in range(self._bands + 1)]
        parts = []
        for number, (above, below) in enumerate(itertools.pairwise(centres), start=1):
            start = 0 if number == 1 else factor // 2
            end = None if number == self._bands else factor * (below - above) + factor // 2
            parts.append([map_[:, start:end] for map_ in self._classes(logits[:, :, above : below + 1])])
        labels, confidence = (torch.cat(maps, dim=1) for maps in zip(*parts, strict=True))
        return labels, confidence

    def _classes(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        logits = F.interpolate(logits, scale_factor=self._factor, mode="bilinear", align_corners=False)
        top, labels = logits.max(dim=1)
        confidence = 1 / torch.exp(logits - top[:, None]).sum(dim=1)  # softmax of the winning class
        return labels.to(torch.float32), confidence * 255 + 0.5


def static_graph(model: HRDA | Segmenter, plan: WindowPlan, mean: Triple, std: Triple) -> DeployGraph:
    """Build the graph of one window plan for images of `plan.padded_height` x `plan.padded_width`.

    Raises:
        BackendError: the plan does not become a graph, or not for this kind of network.
    """
    if plan.name not in GRAPH_PLANS or (plan.name == "whole") != isinstance(model, Segmenter):
        kind = "a single-scale network" if isinstance(model, Segmenter) else "an HRDA network"
        raise BackendError(f"window plan '{plan.name}' does not become a graph of {kind}")
    if isinstance(model, Segmenter) or plan.name == "context":
        network: nn.Module = model
        logits, factor = _logits_of_any_size(model, PlanChoice(plan.name))
    else:
        network = AllTiles(model, plan) if plan.name in ("tiles", "overlap") else ChosenTiles(model, plan)
        logits, factor = network, model.stride / model.detail_scale
    return DeployGraph(network, logits, factor, mean, std, _bands(plan, factor))


def _bands(plan: WindowPlan, factor: float) -> int:
    """As many bands as bound their logits; one where a row of the grid is no whole number of rows of the image."""
    if factor != int(factor):
        return 1
    wanted = math.ceil(plan.padded_height * plan.padded_width / BAND_PIXELS)
    return min(wanted, max(1, plan.padded_height // int(factor) - 1))  # more would be empty


def _logits_of_any_size(model: HRDA | Segmenter, choice: PlanChoice) -> tuple[Callable[[Tensor], Tensor], float]:
    if isinstance(model, Segmenter):
        return model, float(model.stride)
    if choice.name == "context":
        return model.context_logits, model.stride / model.context_scale
    grid = choice.grid
    assert grid is not None
    return (lambda image: model(image, grid)), model.stride / model.detail_scale


def _to_uint8(x: Tensor) -> Tensor:
    return x.to(torch.uint8)
