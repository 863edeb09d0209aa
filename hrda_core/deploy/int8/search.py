"""Finds the layers that lose most in int8, and makes a graph that leaves as few of them in floating point as needed.

Each layer is quantised alone and the labels are compared: an error early in the encoder, or in a depthwise convolution
whose channels differ in range, changes many more pixels than its own size tells. The worst layers then stay in floating
point, fewer or more of them, until enough labels are equal. Needs onnx and onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from hrda_core.deploy.int8.agreement import Agreement, compare, run_in_onnxruntime
from hrda_core.deploy.int8.layers import Layer, quantisable_layers
from hrda_core.deploy.int8.writing import Ranges, activation_ranges, with_int8
from hrda_core.errors import BackendError

__all__ = ["TARGET_AGREEMENT", "TARGET_WORST", "LayerLoss", "Quantised", "layer_losses", "quantise_to_agree"]

TARGET_AGREEMENT = 0.992
"""Share of equal labels that is aimed at: a little above the bar, which is on other images."""

TARGET_WORST = 0.985
"""The same for the image where it is lowest: dark images lose most, and are few in most footage."""

_LOSS_IMAGES = 4
_MOST_KEPT = 0.5

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LayerLoss:
    """The effect of quantising one layer alone.

    Attributes:
        layer: the layer.
        changed: share of pixels with another label than in floating point, 0..1, mean over images.
    """

    layer: Layer
    changed: float


@dataclass(frozen=True)
class Quantised:
    """A graph in int8 and how well it agrees.

    Attributes:
        model: the graph.
        backend: runtime that it is written for.
        layers: number of layers that could be quantised.
        kept: names of those that stayed in floating point, the worst first.
        agreement: agreement with the floating point graph on the images of calibration, in ONNX Runtime.
    """

    model: onnx.ModelProto
    backend: str
    layers: int
    kept: tuple[str, ...]
    agreement: Agreement


def quantise_to_agree(
    model: onnx.ModelProto,
    images: Sequence[UInt8Array],
    *,
    target: float = TARGET_AGREEMENT,
    target_worst: float = TARGET_WORST,
    backend: str = "tensorrt",
    say: Callable[[str], None] = lambda line: None,
) -> Quantised:
    """Calibrate, quantise, and leave the worst layers in floating point until the labels agree.

    Args:
        model: static graph in fp32, constants folded, shapes inferred.
        images: uint8 (1, H, W, 3) RGB of the graph's size, from the domain that the model will see; held in memory.
        target, target_worst: smallest share of equal labels, mean over images and for the worst image.
        backend: runtime that the graph is written for, one of `INT8_BACKENDS`.
        say: takes one line of progress.

    Raises:
        BackendError: half of the layers in floating point are not enough, there is no layer that can be quantised, the
            operator set is too old, or the back end is not known.
        DataError: there is no image.
        MissingPackageError: onnxruntime is not installed.
    """
    layers = quantisable_layers(model)
    say(f"calibrating {len(layers)} layers on {len(images)} images")
    ranges = activation_ranges(model, images)
    search = _Search(model, images, layers, ranges, backend, say)

    def is_enough(result: Quantised) -> bool:
        return result.agreement.labels >= target and result.agreement.worst >= target_worst

    result = search.attempt([])
    if is_enough(result):
        return result
    say("looking for the layers that lose most")
    some = images[:: -(-len(images) // _LOSS_IMAGES)]
    losses = layer_losses(model, layers, ranges, some, backend=backend)
    worst = [loss.layer for loss in losses[: int(_MOST_KEPT * len(losses))]]
    result = search.attempt(worst)
    if not is_enough(result):
        raise BackendError(
            f"int8 gives the labels of floating point on {result.agreement.labels:.2%} of the pixels "
            f"({result.agreement.worst:.2%} in the worst image) with {len(result.kept)} of {len(layers)} layers in "
            f"floating point; expected {target:.1%} ({target_worst:.1%}): use fp16 or fp32 for this model"
        )
    return search.fewest_kept(worst, is_enough, result)


def layer_losses(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    ranges: Ranges,
    images: Sequence[UInt8Array],
    *,
    backend: str = "tensorrt",
) -> list[LayerLoss]:
    """Quantise each layer alone and count labels that change, the worst layer first.

    Args:
        model, layers, ranges, backend: as for `with_int8`.
        images: uint8 (1, H, W, 3) RGB; a few are enough.
    """
    reference = run_in_onnxruntime(model)
    wanted = [reference(image) for image in images]
    losses = []
    for layer in layers:
        run = run_in_onnxruntime(with_int8(model, [layer], ranges, backend))
        agreement = compare((run(image), masks) for image, masks in zip(images, wanted, strict=True))
        losses.append(LayerLoss(layer, 1 - agreement.labels))
    return sorted(losses, key=lambda loss: -loss.changed)


class _Search:
    """Quantises with some of the layers kept, and measures."""

    def __init__(
        self,
        model: onnx.ModelProto,
        images: Sequence[UInt8Array],
        layers: Sequence[Layer],
        ranges: Ranges,
        backend: str,
        say: Callable[[str], None],
    ) -> None:
        self._model, self._images, self._layers = model, images, layers
        self._ranges, self._backend, self._say = ranges, backend, say
        reference = run_in_onnxruntime(model)
        self._wanted = [reference(image) for image in images]

    def attempt(self, kept: Sequence[Layer]) -> Quantised:
        chosen = [layer for layer in self._layers if layer not in kept]
        graph = with_int8(self._model, chosen, self._ranges, self._backend)
        run = run_in_onnxruntime(graph)
        pairs = zip(self._images, self._wanted, strict=True)
        agreement = compare((run(image), wanted) for image, wanted in pairs)
        names = tuple(layer.name for layer in kept)
        self._say(
            f"{len(names)} layers in floating point: {agreement.labels:.2%} of the labels are equal, "
            f"{agreement.worst:.2%} in the worst image"
        )
        return Quantised(graph, self._backend, len(self._layers), names, agreement)

    def fewest_kept(self, worst: Sequence[Layer], is_enough: Callable[[Quantised], bool], best: Quantised) -> Quantised:
        """By halving, from `best`, which keeps all of `worst`: agreement grows with what is kept, but for noise."""
        low, high = 0, len(worst)
        while high - low > 1:
            middle = (low + high) // 2
            result = self.attempt(worst[:middle])
            if is_enough(result):
                best, high = result, middle
            else:
                low = middle
        return best
