"""Style hallucination (SHADE, arXiv 2204.02548): the same image in another style, made between encoder stages 1 and 2.

A plain ViT has no stages. There it is made of the patches' embeddings before positions are added to them: the
shallowest map there is, a linear one of the pixels, and positions are no style.

A style is the mean and standard deviation of each channel of the stage-1 map. Styles of the training images spread
between 64 prototypes, chosen by farthest point sampling; a new one is a random mixture of them:

    x' = (x - mean(x)) / std(x) * (w . S) + w . M          w ~ Dirichlet(0.0156, ..., 0.0156)

From there on the batch is [x; x'], 2B images. Each pass through the encoder (HRDA: context, then detail) has its own w.

    styles = attach_styles(network, 64)
    styles.set_prototypes(*collect_style_prototypes(network.backbone, batches, 64, rng, scale=0.5))
    with styles.drawn(weights):                    # one (B, 64) for each pass
        maps = network.backbone(images)            # in train mode: (2B, ...)

Outside `drawn`, and in eval mode, nothing changes. Prototypes are no part of the state dict: `style_tensors` gives them
to whoever wants to keep them. Reference: spec section 13.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from hrda_core.errors import RecipeError
from hrda_core.models.hrda import HRDA
from hrda_core.models.mix_transformer import MixTransformer
from hrda_core.models.plain_vit import PlainViT
from hrda_core.models.segmenter import Segmenter
from hrda_core.models.timm_encoder import TimmEncoder
from hrda_core.uda.precision import at_least_single

__all__ = [
    "StyleHallucination",
    "attach_styles",
    "attached_styles",
    "collect_style_prototypes",
    "draw_style_weights",
    "farthest_point_sampling",
    "load_style_tensors",
    "style_statistics",
    "style_tensors",
]

_EPS = 1e-7
_PREFIX = "backbone.style_hallucination."
"""Where released checkpoints keep `proto_mean` and `proto_std`."""


class StyleHallucination(nn.Module):
    """Holds prototypes of styles, and doubles a batch by a mixture of them.

    Args:
        channels: channels of the map.
        count: number of prototypes.

    Attributes:
        proto_mean, proto_std: (count, channels), zero until `set_prototypes`; not in the state dict.
    """

    proto_mean: Tensor
    proto_std: Tensor

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        for name in ("proto_mean", "proto_std"):
            self.register_buffer(name, torch.zeros(count, channels), persistent=False)
        self._waiting: list[Tensor] | None = None

    @property
    def is_filled(self) -> bool:
        """Whether there are prototypes."""
        return bool(self.proto_std.any())

    def set_prototypes(self, mean: Tensor, std: Tensor) -> None:
        """Store prototypes (count, channels) from `collect_style_prototypes`.

        Raises:
            RecipeError: the number of prototypes or of channels differs.
        """
        if mean.shape != self.proto_mean.shape or std.shape != self.proto_std.shape:
            raise RecipeError(
                f"style prototypes are two tensors {tuple(self.proto_mean.shape)}, not {tuple(mean.shape)} and "
                f"{tuple(std.shape)}"
            )
        self.proto_mean.copy_(mean)
        self.proto_std.copy_(std)

    @contextmanager
    def drawn(self, weights: Sequence[Tensor]) -> Iterator[None]:
        """Double the batch of the next passes through the encoder in train mode, with weights (B, count) for each pass.

        Raises:
            RecipeError: there are no prototypes yet, or not as many as there are weights.
        """
        if not self.is_filled:
            raise RecipeError("style hallucination has no prototypes yet; collect them from training images first")
        count = len(self.proto_mean)
        if any(row.shape[1] != count for row in weights):
            raise RecipeError(
                f"style weights are for {[row.shape[1] for row in weights]} prototypes; there are {count}"
            )
        self._waiting = list(weights)
        try:
            yield
        finally:
            self._waiting = None

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, H, W) to [x; x'], (2B, C, H, W), inside `drawn` and in train mode; else return the map itself."""
        if not self.training or self._waiting is None:
            return features
        if not self._waiting:
            raise RuntimeError("more passes through the encoder than style weights were drawn for")
        return torch.cat([features, self.stylised(features, self._waiting.pop(0))])

    def stylised(self, features: Tensor, weights: Tensor) -> Tensor:
        """Return the map x' (B, C, H, W) in the styles that weights (B, count) mix; statistics carry no gradient."""
        mean, std = style_statistics(features)
        # Sums of products, since autocast would round those of a matrix product.
        shares = weights.to(self.proto_mean)[..., None]
        new_mean, new_std = (shares * self.proto_mean).sum(1), (shares * self.proto_std).sum(1)
        plain = (at_least_single(features) - mean[..., None, None]) / std[..., None, None]
        return (plain * new_std[..., None, None] + new_mean[..., None, None]).to(features.dtype)


def style_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (unbiased, + 1e-7) of the channels: (B, C, H, W) -> two (B, C).

    They carry no gradient.
    """
    values = at_least_single(features.detach()).flatten(2)
    return values.mean(2), values.std(2) + _EPS


def draw_style_weights(
    generators: Sequence[np.random.RandomState], count: int, concentration: float = 0.0156
) -> Tensor:
    """Draw mixture weights with one generator for each image: float32 (B, count), rows sum to 1.

    Args:
        concentration: concentration of the Dirichlet distribution. 1 / count mixes a few styles: the largest weight is
            0.62 on average.
    """
    rows = [rng.dirichlet(np.full(count, concentration)) for rng in generators]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


def farthest_point_sampling(points: Tensor, count: int, start: int) -> Tensor:
    """Choose points that lie far apart, each the farthest from those before it; return their indices, int64 (count,).

    Args:
        points: (N, D), N at least `count`. Distances are Euclidean.
        start: index of the first.
    """
    chosen = [start]
    nearest = (points - points[start]).square().sum(1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen, device=points.device)


@torch.no_grad()
def collect_style_prototypes(
    encoder: MixTransformer | TimmEncoder | PlainViT,
    batches: Iterable[Tensor],
    count: int,
    rng: np.random.RandomState,
    *,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Choose prototypes among the styles of training images.

    The encoder is in eval mode meanwhile, and returns to its former mode.

    Args:
        batches: normalised images (B, 3, H, W), augmented as in training. The paper takes the whole source set.
        count: number of prototypes to choose.
        rng: draws the first of them.
        scale: factor by which images are resized; HRDA: `context_scale`.

    Returns:
        means and standard deviations, (count, C) each, float32 or better.

    Raises:
        RecipeError: there are fewer images than prototypes.
    """
    modes = [(module, module.training) for module in encoder.modules()]
    device = next(encoder.parameters()).device
    encoder.eval()
    try:
        styles = [
            torch.cat(style_statistics(_first_map(encoder, images.to(device), scale)), dim=1) for images in batches
        ]
    finally:
        for module, training in modes:
            module.training = training
    found = sum(map(len, styles))
    if found < count:
        raise RecipeError(
            f"{count} style prototypes need as many training images, not {found}; ask for fewer prototypes"
        )
    points = torch.cat(styles)
    mean, std = points[farthest_point_sampling(points, count, int(rng.randint(found)))].chunk(2, dim=1)
    return mean, std


def attach_styles(network: HRDA | Segmenter, count: int) -> StyleHallucination:
    """Give the network's encoder `count` (empty) prototypes and return them. Weights and their names do not change."""
    encoder = _encoder(network)
    channels = encoder.width if isinstance(encoder, PlainViT) else encoder.channels[0]
    styles = StyleHallucination(channels, count).to(next(encoder.parameters()).device)
    encoder.style_hallucination = styles.train(encoder.training)
    return styles


def attached_styles(network: HRDA | Segmenter) -> StyleHallucination | None:
    """Return what `attach_styles` gave the network's encoder, or None."""
    styles = getattr(network.backbone, "style_hallucination", None)  # encoders without stages cannot have it
    return styles if isinstance(styles, StyleHallucination) else None


def style_tensors(network: HRDA | Segmenter) -> dict[str, Tensor]:
    """Return the prototypes under the names of released checkpoints; the result is empty without `attach_styles`."""
    styles = attached_styles(network)
    return {} if styles is None else {_PREFIX + name: value for name, value in styles.named_buffers()}


def load_style_tensors(network: HRDA | Segmenter, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `style_tensors` returned; do nothing without such tensors.

    Prototypes are attached where there are none.

    Raises:
        RecipeError: the network has another number of prototypes, or its encoder other channels.
    """
    if not tensors:
        return
    mean, std = (tensors[f"{_PREFIX}proto_{name}"] for name in ("mean", "std"))
    (attached_styles(network) or attach_styles(network, len(mean))).set_prototypes(mean, std)


def _encoder(network: HRDA | Segmenter) -> MixTransformer | TimmEncoder | PlainViT:
    encoder = network.backbone
    if not isinstance(encoder, MixTransformer | TimmEncoder | PlainViT):
        raise RecipeError(
            f"style hallucination changes the map at stride 4 of an encoder with stages, or the patches of a plain "
            f"ViT, and {type(encoder).__name__} has neither; take a MiT, or an encoder of timm"
        )
    return encoder


def _first_map(encoder: MixTransformer | TimmEncoder | PlainViT, images: Tensor, scale: float) -> Tensor:
    """The map at stride 4, or the patches of a plain ViT."""
    if scale != 1:
        images = nn.functional.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
    if isinstance(encoder, PlainViT):
        return encoder.embedded(images)
    return encoder.forward_stage(1, images) if isinstance(encoder, MixTransformer) else encoder(images)[0]
