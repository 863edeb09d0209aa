"""AdaBN (arXiv 1603.04779): BatchNorm statistics from unlabelled images adapt a network to a new place.

It needs no label, no gradient and no optimiser, only a few forward passes over images of the new place. The weights
stay as they are; mean and variance of each BatchNorm layer become the plain average of what the layer sees. Networks
without BatchNorm in the encoder (MiT) still have it in the decoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hrda_core.errors import DataError
from hrda_core.models.hrda import HRDA
from hrda_core.models.segmenter import Segmenter
from hrda_core.window_plan import PlanChoice
from hrda_core.windows.torch_windows import predict_logits

__all__ = ["reestimate_batchnorm"]


def reestimate_batchnorm(
    network: HRDA | Segmenter,
    images: Iterable[Tensor],
    *,
    plan: str | PlanChoice | None = None,
    keep_encoder: bool = False,
) -> int:
    """Recompute the statistics of BatchNorm layers on unlabelled images, in place.

    Images run through the network as in inference. In HRDA, the layers that context and detail share see both, and both
    have equal weight. While statistics are measured, layers normalise by their batch, so give batches of 4 to 16 images
    of different scenes. Every batch has the same weight, whatever its size. If anything fails, the network is left as
    it was.

    Args:
        images: batches, float (B, 3, H, W), normalised; they are moved to the network's device one by one.
        plan: window plan of `hrda_core.windows.torch_windows.predict_logits`, that of the deployed network; None =
            `overlap` for HRDA, as in training, and `whole` for single-scale networks. `tiles` costs HRDA about half.
            Layers that a plan does not run keep their statistics (`context`: those of the scale attention).
        keep_encoder: leave the encoder's layers as they are.

    Returns:
        number of layers with new statistics; 0 if the network has none, and then no image is read.

    Raises:
        DataError: there is no image, or a batch has a single value for each channel, which has no variance.
        ImageError, BackendError: as `predict_logits`.
    """
    layers = _layers(network, keep_encoder)
    if not layers:
        return 0
    device = next(network.parameters()).device
    chosen = plan or ("overlap" if isinstance(network, HRDA) else "whole")
    with _measuring(network, layers):
        batches = 0
        for batch in images:
            _measure(network, batch.to(device), chosen)
            batches += 1
        if not batches:
            raise DataError("BatchNorm statistics need at least one image; found none: check the folder")
        return sum(_has_seen_a_batch(layer) for layer in layers)


def _layers(network: HRDA | Segmenter, keep_encoder: bool) -> list[_BatchNorm]:
    kept = set(network.backbone.modules()) if keep_encoder else set()
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module not in kept
    ]


def _has_seen_a_batch(layer: _BatchNorm) -> bool:
    return layer.num_batches_tracked is not None and bool(layer.num_batches_tracked > 0)


@contextmanager
def _measuring(network: nn.Module, layers: list[_BatchNorm]) -> Iterator[None]:
    """Everything in eval mode but `layers`, which average from zero on; modes return, and on failure statistics too."""
    modes = [(module, module.training) for module in network.modules()]
    before = [(layer, layer.momentum, {k: v.clone() for k, v in layer.named_buffers()}) for layer in layers]
    network.eval()
    for layer in layers:
        layer.train()
        layer.momentum = None  # the plain average over all batches
        layer.reset_running_stats()
    failed = True
    try:
        yield
        failed = False
    finally:
        for module, training in modes:
            module.training = training
        for layer, momentum, buffers in before:
            layer.momentum = momentum
            if failed or not _has_seen_a_batch(layer):
                for name, value in layer.named_buffers():
                    value.copy_(buffers[name])


def _measure(network: HRDA | Segmenter, batch: Tensor, plan: str | PlanChoice) -> None:
    try:
        predict_logits(network, batch, plan)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise DataError(
            f"a batch of {len(batch)} image(s) of {batch.shape[2]} x {batch.shape[3]} pixels leaves a BatchNorm layer "
            f"one value for each channel, which has no variance; give batches of 2 or more, or larger images"
        ) from error
