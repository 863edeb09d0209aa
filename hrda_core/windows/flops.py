"""Counts the floating point operations of a window plan, by torch on tensors without data.

Convolutions and matrix products count, a multiply-add as 2; resizing, norms and activations do not. Nothing is
computed: encoder and decoders run on the `meta` device, once for each size of window or detail crop.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hrda_core.models.hrda import HRDA
from hrda_core.window_plan import CropBox, PlanChoice
from hrda_core.windows.torch_windows import plan_for

__all__ = ["FlopCounter", "PlanFlops", "plan_flops"]


@dataclass(frozen=True)
class PlanFlops:
    """Floating point operations of one image.

    Attributes:
        windows, crops: number of windows (contexts) and of detail crops that run.
        window: operations of one window: context encoder, decoder, attention; or a single-scale network.
        crop: operations of one detail crop: encoder and decoder.
    """

    windows: int
    crops: int
    window: int
    crop: int

    @property
    def total(self) -> int:
        """Operations of the image."""
        return self.windows * self.window + self.crops * self.crop

    @property
    def giga(self) -> float:
        """`total` in GFLOP."""
        return self.total / 1e9


class FlopCounter:
    """Counts plans of one network; parts that several plans share are counted once.

    Args:
        model: any network that `predict_logits` takes, on any device; it is copied without its data.
    """

    def __init__(self, model: nn.Module) -> None:
        self._network = _without_data(model)
        self._known: dict[tuple[str, int, int], int] = {}
        self._maps: dict[tuple[int, int], list[Tensor]] = {}

    def __call__(
        self,
        plan: str | PlanChoice,
        height: int,
        width: int,
        *,
        share_detail: bool = True,
        **options: Any,
    ) -> PlanFlops:
        """What `predict_logits` costs for one image.

        Args:
            plan, options: see `predict_logits`.
            height, width: image size, pixels.
            share_detail: False counts detail crops that nested windows have in common once for each window, as the
                reference runs them.

        Raises:
            BackendError, ImageError, RecipeError: as `predict_logits`.
        """
        network = self._network
        choice = PlanChoice.of(plan, **options)
        cut = plan_for(network, choice, height, width, share_detail=share_detail)
        if not isinstance(network, HRDA):
            return PlanFlops(len(cut.windows), 0, self._count("network", network, self._image(cut.windows[0], 1)), 0)
        small = self._image(cut.windows[0], network.context_scale)
        window = self._branch(network, small, attention=choice.name != "context")
        detail = self._branch(network, self._image(cut.detail[0], network.detail_scale)) if cut.detail else 0
        return PlanFlops(len(cut.windows), cut.crops_run, window, detail)

    def _branch(self, network: HRDA, image: Tensor, *, attention: bool = False) -> int:
        """Encoder and decoder on one image, and the attention decoder if it runs."""
        heads = network.decode_head
        total = self._count("encoder", network.backbone, image)
        total += self._count("decoder", heads.head, image)
        if attention and heads.scale_attention is not None:
            total += self._count("attention", heads.scale_attention, image)
        return total

    def _count(self, part: str, module: nn.Module, image: Tensor) -> int:
        """Operations of one part; decoders get the maps that the encoder gave for this size."""
        height, width = image.shape[2:]
        if (part, height, width) not in self._known:
            argument = self._maps[height, width] if part in ("decoder", "attention") else image
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                out = module(argument)
            if part == "encoder":
                self._maps[height, width] = out
            self._known[part, height, width] = int(counter.get_total_flops())
        return self._known[part, height, width]

    @staticmethod
    def _image(box: CropBox, scale: float) -> Tensor:
        height, width = (math.floor(side * scale + 1e-6) for side in (box.height, box.width))
        return torch.empty(1, 3, height, width, device="meta")


def plan_flops(
    model: nn.Module,
    plan: str | PlanChoice,
    height: int,
    width: int,
    *,
    share_detail: bool = True,
    **options: Any,
) -> PlanFlops:
    """Count once by `FlopCounter(model)`, which explains the arguments; keep a `FlopCounter` for several plans."""
    return FlopCounter(model)(plan, height, width, share_detail=share_detail, **options)


def _without_data(model: nn.Module) -> nn.Module:
    """A copy in eval mode on the meta device."""
    # The memo of deepcopy maps every tensor to an empty one, so that no weights are copied.
    memo = {id(tensor): _empty(tensor) for tensor in [*model.parameters(), *model.buffers()]}
    return copy.deepcopy(model, memo).eval()


def _empty(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
