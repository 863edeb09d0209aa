"""Estimates memory and time of a recipe's step on a GPU that is not here, from counts alone; nothing is measured.

A pass forwards and backwards runs on tensors without data, and every storage that an operation makes counts until
nothing holds it any more: the peak is what one pass needs. Weights, gradients and the optimiser's moments are added.
Passes of a step follow one another, so the largest counts once. Operations are those of convolutions and matrix
products, 2 a multiply-add; the gradient of a layer's input costs a forward pass, and so does that of its weights.

A process on a CPU grows by the peak of a pass, a quarter of it and 60 MB at most (test_gpu_estimate.py). A GPU needs
room beside it, which `_ROOM` and `_DRIVER` stand for.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from hrda_core.models import HRDA, Segmenter, create_model, resolve_preset
from hrda_core.models.mix_transformer import MixTransformer
from hrda_core.models.plain_vit import PlainViT
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.resting import rest_weights
from hrda_core.uda.supervised import LossConfig, forward_losses
from hrda_core.window_plan import CropBox
from hrda_core.windows.flops import plan_flops

__all__ = ["GpuEstimate", "Pass", "count_pass", "estimate_gpu"]

GPUS: Mapping[int, tuple[str, float, float]] = {24: ("RTX 4090", 82.6e12, 165.2e12), 80: ("A100", 19.5e12, 312e12)}
"""GB of memory -> a GPU that has them, and its operations a second in single and half precision, of its data sheet."""

_SHARE = 0.35
"""Share of these that a training step reaches: assumed, not measured."""

_ROOM, _DRIVER = 1.15, 1.0
"""Factor for what the allocator cannot use, and GB of CUDA's own: assumed, not measured."""

_PASSES = {"self_training": 2, "entropy": 2, "adversarial": 2, "distillation": 2}
"""Method -> passes of a batch in a step; the others have one."""


@dataclass(frozen=True)
class Pass:
    """One pass of a batch, forwards and backwards.

    Attributes:
        peak: most bytes that its tensors hold at once; weights do not count.
        flops: operations forwards.
        encoder_flops: those of the encoder among them.
    """

    peak: int
    flops: int
    encoder_flops: int


@dataclass(frozen=True)
class GpuEstimate:
    """What a step of a recipe costs.

    Attributes:
        weights: bytes of all networks; what rests counts once, though teacher and feature distance have it too.
        gradients, optimizer: bytes of the student's gradients, and of the optimiser's moments.
        one_pass: bytes of the largest pass.
        flops: operations of a step.
        iterations: steps.
        half: whether matrix products run in half precision.
    """

    weights: int
    gradients: int
    optimizer: int
    one_pass: int
    flops: float
    iterations: int
    half: bool

    @property
    def memory_gb(self) -> float:
        """Return the GB of a GPU that a run needs."""
        return _ROOM * (self.weights + self.gradients + self.optimizer + self.one_pass) / 1e9 + _DRIVER

    def hours(self, gpu: int) -> float:
        """Return the hours of all steps on the GPU of `GPUS` with that memory."""
        _, single, half = GPUS[gpu]
        return self.flops * self.iterations / ((half if self.half else single) * _SHARE) / 3600

    def __str__(self) -> str:
        parts = {"weights": self.weights, "gradients": self.gradients, "optimiser": self.optimizer}
        counted = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in parts.items())
        lines = [
            "on a GPU (counted from tensors without data, nothing measured; room and speed are assumed):",
            f"  memory {self.memory_gb:.1f} GB: {counted}, one pass {self.one_pass / 1e9:.1f}, and room",
            f"  {self.flops / 1e12:.1f} TFLOP a step, at {_SHARE:.0%} of what a data sheet says of "
            f"{'half' if self.half else 'single'} precision",
        ]
        for size, (name, *_) in GPUS.items():
            fits = "fits" if self.memory_gb <= size else "does not fit"
            lines.append(f"  {size} GB (such as {name}): {fits}, {self.hours(size):.0f} h without scoring")
        if self.memory_gb > min(GPUS):
            lines.append("  less memory: --runtime.gradient_checkpointing true, --runtime.precision bf16")
        return "\n".join(lines)


def estimate_gpu(recipe: Recipe, classes: int) -> GpuEstimate:
    """Count a step of the recipe's method on one GPU; its data are not opened.

    Args:
        recipe: the training run.
        classes: number of the network's classes.

    Raises:
        RecipeError: a preset or override is unknown.
    """
    config = resolve_preset(recipe.model.preset, **recipe.model.overrides)
    network = _without_data(recipe.model.preset, classes, recipe.model.overrides)
    rest_weights(network, recipe.model)
    twice, half = recipe.runtime.gradient_checkpointing, recipe.runtime.precision in ("bf16", "fp16")
    # Domain generalization shows each image in two styles.
    batch = recipe.batch_size * (2 if recipe.method == "domain_generalization" else 1)
    height, width = recipe.crop.height, recipe.crop.width
    one = count_pass(network, batch, (height, width), recompute=twice, half=half)
    encoder = {"full": 3, "frozen": 1}.get(config.tuning, 2) + (twice and config.tuning != "frozen")
    passes = _PASSES.get(recipe.method, 1) + (recipe.method == "self_training" and recipe.self_training.mic is not None)
    flops: float = passes * (encoder * one.encoder_flops + 3 * (one.flops - one.encoder_flops))
    weights, learning = _bytes(network), _gradients(network)
    if recipe.method == "self_training":
        plan = recipe.self_training.teacher_plan if isinstance(network, HRDA) else "whole"
        flops += recipe.batch_size * plan_flops(network, plan, height, width).total
    if recipe.method == "self_training" or recipe.averages:
        weights += learning + _buffers(network)  # what rests is the student's
    if recipe.needs_imagenet_encoder:
        weights += _imagenet_bytes(network.backbone, shares=recipe.model.weights is None)
        flops += one.encoder_flops / 2
    if recipe.distillation is not None:
        guide = recipe.distillation.guide
        larger = _without_data(guide.preset, classes, guide.overrides)
        weights += _bytes(larger)
        plan = "tiles" if isinstance(larger, HRDA) else "whole"
        flops += recipe.batch_size * plan_flops(larger, plan, height, width).total
    moments = learning * (1 if recipe.optim.kind == "sgd" else 2)
    return GpuEstimate(weights, learning, moments, one.peak, flops, recipe.iterations, half)


def count_pass(
    network: HRDA | Segmenter,
    batch: int,
    size: tuple[int, int],
    *,
    recompute: bool = False,
    half: bool = False,
) -> Pass:
    """Run a network once without data, forwards and backwards.

    Args:
        network: on any device; it is copied without its data.
        batch: images.
        size: height and width of the crop, pixels.
        recompute: as `runtime.gradient_checkpointing`.
        half: matrix products and convolutions in bfloat16.
    """
    with FakeTensorMode():
        memo: dict[int, Any] = {id(tensor): _fake(tensor) for tensor in [*network.parameters(), *network.buffers()]}
        network = copy.deepcopy(network, memo).train()
        if recompute:
            _recompute(network.backbone)
        images, labels = torch.empty(batch, 3, *size), torch.empty(batch, *size, dtype=torch.long)
        box = CropBox(0, network.detail_crop[0], 0, network.detail_crop[1]) if isinstance(network, HRDA) else None
        precision = torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
        with _HeldBytes() as held, precision:
            torch.autograd.backward(forward_losses(network, images, labels, box, LossConfig()).total)
        # Without the losses, which a CPU resizes by matrix products.
        with _flops() as counter, torch.no_grad():
            network(images) if box is None or not isinstance(network, HRDA) else network.forward_train(images, box)
        with _flops() as encoder, torch.no_grad():
            for seen in _encoder_inputs(network, images, box):
                network.backbone(seen)
    return Pass(held.peak, int(counter.get_total_flops()), int(encoder.get_total_flops()))


class _HeldBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operations make, as long as something holds them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._add(value.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known[key] = storage.nbytes()
            self._now += self._known[key]
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self._now -= self._known.pop(key)


def _flops() -> FlopCounterMode:
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    count: Any = sdpa_flop_count
    counted = {attention: lambda q, k, v, *_, **__: count(q, k, v)}
    return FlopCounterMode(display=False, custom_mapping=counted)


def _encoder_inputs(network: HRDA | Segmenter, images: Tensor, box: CropBox | None) -> list[Tensor]:
    if not isinstance(network, HRDA) or box is None:
        return [images]
    context = nn.functional.interpolate(images, scale_factor=network.context_scale)
    return [context, network.detail_image(images)[box.scaled(network.detail_scale).index]]


def _recompute(encoder: nn.Module) -> None:
    switched: Any = encoder if hasattr(encoder, "set_grad_checkpointing") else getattr(encoder, "body", None)
    if isinstance(encoder, MixTransformer):
        encoder.checkpoint_blocks = True
    elif hasattr(switched, "set_grad_checkpointing"):
        switched.set_grad_checkpointing(True)


def _without_data(preset: str, classes: int, overrides: Any) -> HRDA | Segmenter:
    with torch.device("meta"):
        return create_model(preset, classes, **overrides)


def _fake(tensor: Tensor) -> Tensor:
    empty = torch.empty(tensor.shape, dtype=tensor.dtype)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _imagenet_bytes(backbone: nn.Module, *, shares: bool) -> int:
    """Bytes of the encoder of the feature distance, which `shares` what rests of the student's: for certain only where
    both start from the same file."""
    encoder = copy.deepcopy(backbone)
    if isinstance(encoder, PlainViT):
        encoder.drop_adapters()
    return _gradients(encoder) + _buffers(encoder) if shares else _bytes(encoder)


def _bytes(network: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in network.parameters()) + _buffers(network)


def _buffers(network: nn.Module) -> int:
    return sum(buffer.nbytes for buffer in network.buffers())


def _gradients(network: nn.Module) -> int:
    """Bytes of the parameters that learn."""
    return sum(parameter.nbytes for parameter in network.parameters() if parameter.requires_grad)
