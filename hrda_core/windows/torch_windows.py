"""Runs the paper's inference in PyTorch: whole images of any size through a network, cut by a window plan.

`predict_logits` is the reference's test mode (paper section 3.4; spec section 5; windows: `hrda_core/window_plan.py`):

1. every window gives context logits and attention (LR branch), every detail crop gives detail logits (HR branch);
2. detail logits of a window are summed on the stride-4 grid and divided by the number of crops that cover each cell;
3. both are fused on that grid, and the result is enlarged (bilinear) to the window's size;
4. overlapping windows are averaged as logits at image resolution.

Batches are crop-major (`index = crop * B + image`). Detail crops that nested windows share run once: 21 instead of 27
at 1024 x 2048. Where the reference raises a shape error, on sides that are not multiples of 8, the image is padded at
the bottom and right by repeating its border, and the result is cropped.

The network runs in the mode that it is in (call `model.eval()`), without gradients. With BatchNorm in train mode, as
in the teacher of self-training, statistics are those of one batch of all windows and one of all detail crops; keep
`max_batch` at None there, and use `overlap`, which for a training crop is what the reference does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrda_core.errors import BackendError, ImageError, RecipeError
from hrda_core.models.hrda import HRDA, ContextOutput
from hrda_core.window_plan import (
    HRDA_PLANS,
    SINGLE_SCALE_PLANS,
    CropBox,
    PlanChoice,
    Size,
    SizeRules,
    WindowPlan,
    plan_windows,
)
from hrda_core.windows.detail_tiles import ChosenTiles
from hrda_core.windows.feather import crop_weights

__all__ = ["check_image", "plan_for", "predict_logits", "predict_probs", "run_plan", "window_logits"]

_ENCODER_STRIDE = 32
"""Coarsest stride of the encoders; an input below it leaves nothing of some map (MiT: of its reduced keys)."""


def predict_logits(
    model: nn.Module,
    image: Tensor,
    plan: str | PlanChoice = "nested",
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    max_batch: int | None = None,
    **options: Any,
) -> Tensor:
    """Predict the logits of whole images at image resolution.

    Args:
        model: `HRDA`, or a single-scale network (`Segmenter`).
        image: float (B, 3, H, W), normalised, any size from 1 x 1.
        plan: HRDA: `nested`, `overlap`, `tiles`, `topk`, `context`; single-scale networks: `whole`, `slide`. A name, or
            a choice with its options.
        scales, flip: see `predict_probs`; with more than one view the result is the logarithm of the mean probability.
        max_batch: largest number of windows or crops in one run of the encoder, to bound memory; None = all.
        options: `grid`, `overlap`, `keep`, `crop` and `stride` of `PlanChoice`, beside the name of a plan.

    Returns:
        (B, C, H, W).

    Raises:
        BackendError: the plan is not one for this kind of network, or has no such option.
        ImageError: the image has another shape or dtype, or the batch is empty.
        RecipeError: windows, scales or `max_batch` make no sense.
    """
    check_image(model, image)
    choice = PlanChoice.of(plan, **options)
    if tuple(scales) == (1.0,) and not flip:
        return run_plan(model, image, plan_for(model, choice, *image.shape[2:]), max_batch)
    probs = predict_probs(model, image, choice, scales=scales, flip=flip, max_batch=max_batch)
    return probs.clamp_min(torch.finfo(probs.dtype).tiny).log()


def predict_probs(
    model: nn.Module,
    image: Tensor,
    plan: str | PlanChoice = "nested",
    *,
    size: Size | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    max_batch: int | None = None,
    **options: Any,
) -> Tensor:
    """Predict class probabilities: logits resized (bilinear) to `size`, then softmax, averaged over scales and flips.

    Args:
        size: height and width of the result, for example of the annotation; None = of the image.
        scales: factors by which the image is resized before it is cut into windows (which keep their size).
        flip: add the horizontally mirrored image for each scale; its result is mirrored back.
        model, image, plan, max_batch, options: see `predict_logits`.

    Returns:
        (B, C, *size), summing to 1 over C.

    Raises:
        BackendError, ImageError, RecipeError: as `predict_logits`.
    """
    check_image(model, image)
    if not scales or any(scale <= 0 for scale in scales):
        raise RecipeError(f"scales must be one or more factors above 0, not {tuple(scales)}")
    choice = PlanChoice.of(plan, **options)
    height, width = image.shape[2:]
    total: Tensor | None = None
    for scale in scales:
        scaled = _resize(image, (max(1, round(height * scale)), max(1, round(width * scale))))
        windows = plan_for(model, choice, *scaled.shape[2:])
        for mirrored in (False, True) if flip else (False,):
            logits = run_plan(model, scaled.flip(3) if mirrored else scaled, windows, max_batch)
            probs = _resize(logits, size or (height, width)).softmax(1)
            probs = probs.flip(3) if mirrored else probs
            total = probs if total is None else total + probs
    assert total is not None
    return total / (len(scales) * (2 if flip else 1))


def plan_for(
    model: nn.Module, plan: str | PlanChoice, height: int, width: int, *, share_detail: bool = True
) -> WindowPlan:
    """Return the window plan of `predict_logits` for one network and image size.

    Args:
        model, plan: see `predict_logits`.
        height, width: image size, pixels.
        share_detail: run detail crops that nested windows have in common once.

    Raises:
        BackendError, ImageError, RecipeError: as `predict_logits`.
    """
    choice = PlanChoice.of(plan)
    fitting = HRDA_PLANS if isinstance(model, HRDA) else SINGLE_SCALE_PLANS
    if choice.name not in fitting:
        kind = "an HRDA network" if isinstance(model, HRDA) else "a single-scale network"
        raise BackendError(f"window plan '{choice.name}' is not one for {kind}; choose one of {', '.join(fitting)}")
    if not isinstance(model, HRDA):
        return plan_windows(choice, height, width, SizeRules(smallest=_ENCODER_STRIDE))
    # Crops of a resized or blurred window differ at its edge from those of its neighbour.
    plain = model.detail_scale == 1 and not model.blur_detail
    coarse = Fraction(model.context_scale).limit_denominator(64).denominator * _ENCODER_STRIDE
    crops = choice.name in ("nested", "overlap")
    rules = SizeRules(
        multiple_of=model.multiple_of if crops else math.lcm(64, model.multiple_of, coarse),
        tile_multiple=math.lcm(_ENCODER_STRIDE, model.multiple_of),
        tile_step=math.lcm(8, model.multiple_of),
        smallest=math.ceil(_ENCODER_STRIDE / model.context_scale),
        context_scale=model.context_scale,
        detail_crop=model.detail_crop,
        detail_stride=None if model.overlapping_detail else model.detail_crop,
    )
    return plan_windows(choice, height, width, rules, share_detail=share_detail and plain)


@torch.no_grad()
def run_plan(model: nn.Module, image: Tensor, plan: WindowPlan, max_batch: int | None = None) -> Tensor:
    """Carry out a window plan made by `plan_for`: (B, 3, H, W) normalised -> logits (B, C, H, W)."""
    return _average(plan, window_logits(model, image, plan, max_batch))


@torch.no_grad()
def window_logits(model: nn.Module, image: Tensor, plan: WindowPlan, max_batch: int | None = None) -> Iterable[Tensor]:
    """Run a window plan made by `plan_for` on (B, 3, H, W) normalised; return logits (B, C, h, w) of each window.

    They lie on the network's own grid, of any size; enlarged to the window's size they are its logits.
    """
    if max_batch is not None and max_batch < 1:
        raise RecipeError(f"max_batch must be 1 or more, or None for no limit, not {max_batch}")
    padded = _pad(image, plan)
    windows = torch.cat([padded[box.index] for box in plan.windows])
    if not isinstance(model, HRDA):
        return _run(model, windows, max_batch).chunk(len(plan.windows))
    if plan.name == "context":
        return [_run(model.context_logits, windows, max_batch)]
    if plan.name == "topk":
        chosen = ChosenTiles(model, plan).to(windows.device)
        return [torch.cat([chosen(window) for window in torch.split(windows, 1)])]
    contexts = [model.context(batch) for batch in torch.split(windows, max_batch or len(windows))]
    context = ContextOutput(
        torch.cat([part.logits for part in contexts]), torch.cat([part.attention for part in contexts]), []
    )
    del contexts
    detail = _run(model.detail, torch.cat(_detail_crops(model, padded, plan)), max_batch).chunk(len(plan.detail))
    return _fused(model, context, detail, plan)


@torch.no_grad()
def _fused(model: HRDA, context: ContextOutput, detail: Sequence[Tensor], plan: WindowPlan) -> Iterable[Tensor]:
    """Fused logits of each window in turn, (B, C, h/4, w/4)."""
    count = len(plan.windows)
    parts = zip(plan.windows, plan.detail_of, context.logits.chunk(count), context.attention.chunk(count), strict=True)
    for window, indices, logits, attention in parts:
        boxes = [plan.detail[i].shifted(-window.y1, -window.x1) for i in indices]
        cells = [box.scaled(model.detail_scale / model.stride) for box in boxes]
        merged = _merge([detail[i] for i in indices], cells, feathered=plan.name == "tiles")
        yield model.fuse(replace(context, logits=logits, attention=attention), merged)


def _detail_crops(model: HRDA, image: Tensor, plan: WindowPlan) -> list[Tensor]:
    """All detail crops of a padded image, each (B, 3, h, w), in the order of `plan.detail`."""
    if model.detail_scale == 1 and not model.blur_detail:
        return [image[box.index] for box in plan.detail]
    crops = []
    for window, indices in zip(plan.windows, plan.detail_of, strict=True):
        source = model.detail_image(image[window.index])
        boxes = (plan.detail[i].shifted(-window.y1, -window.x1).scaled(model.detail_scale) for i in indices)
        crops += [source[box.index] for box in boxes]
    return crops


def _merge(logits: Sequence[Tensor], boxes: Sequence[CropBox], *, feathered: bool) -> Tensor:
    """Mean of crops where they overlap; boxes on the grid of the logits. Crops (B, C, h, w) -> (B, C, H, W)."""
    height, width = max(box.y2 for box in boxes), max(box.x2 for box in boxes)
    if len(boxes) == 1:
        return logits[0]
    total = logits[0].new_zeros(*logits[0].shape[:2], height, width)
    if feathered:
        weights = crop_weights(boxes, (height, width), feathered=True)
        for crop, box, weight in zip(logits, boxes, weights, strict=True):
            total[box.index] += crop * torch.from_numpy(weight).to(crop)
        return total
    count = total.new_zeros(1, 1, height, width)
    for crop, box in zip(logits, boxes, strict=True):
        total[box.index] += crop
        count[box.index] += 1
    return total / count


def _average(plan: WindowPlan, window_logits: Iterable[Tensor]) -> Tensor:
    """Enlarge each window's logits to its size and average where windows overlap -> (B, C, H, W) without padding."""
    enlarged = (
        _resize(logits, (box.height, box.width)) for logits, box in zip(window_logits, plan.windows, strict=True)
    )
    merged = next(iter(enlarged)) if len(plan.windows) == 1 else _merge_running(enlarged, plan)
    return merged[..., : plan.height, : plan.width]


def _merge_running(window_logits: Iterable[Tensor], plan: WindowPlan) -> Tensor:
    """`_merge` at image resolution, one window in memory at a time."""
    total, count = torch.empty(0), torch.empty(0)
    for logits, box in zip(window_logits, plan.windows, strict=True):
        if not total.numel():
            total = logits.new_zeros(*logits.shape[:2], plan.padded_height, plan.padded_width)
            count = total.new_zeros(1, 1, plan.padded_height, plan.padded_width)
        total[box.index] += logits
        count[box.index] += 1
    return total.div_(count)


def _run(network: Callable[[Tensor], Tensor], batch: Tensor, max_batch: int | None) -> Tensor:
    if max_batch is None or len(batch) <= max_batch:
        return network(batch)
    return torch.cat([network(part) for part in torch.split(batch, max_batch)])


def _pad(image: Tensor, plan: WindowPlan) -> Tensor:
    bottom, right = plan.padded_height - image.shape[2], plan.padded_width - image.shape[3]
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image


def _resize(x: Tensor, size: Size) -> Tensor:
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def check_image(model: nn.Module, image: Tensor) -> None:
    """Raise `ImageError` unless the image is a float tensor (B, 3, H, W) of the network's dtype."""
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        found = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise ImageError(f"images must be a float tensor (B, 3, H, W), normalised; found {found}", "array")
    if image.shape[0] == 0:
        raise ImageError(f"a batch of 0 images (shape {tuple(image.shape)}) has nothing to predict", "array")
    weights = next((p for p in model.parameters() if p.is_floating_point()), None)
    if weights is None or weights.dtype == image.dtype or torch.is_autocast_enabled(image.device.type):
        return
    raise ImageError(f"images are {image.dtype}, the network's weights {weights.dtype}; convert one of them", "array")
