"""Decides for domain generalization when style prototypes are collected, and from which images (spec section 13)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hrda_core.models.hrda import HRDA
from hrda_core.models.mix_transformer import MixTransformer
from hrda_core.models.plain_vit import PlainViT
from hrda_core.models.timm_encoder import TimmEncoder
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.runtime import Runtime
from hrda_core.trainer.samples import MixedSamples, SourceSamples
from hrda_core.trainer.state import State
from hrda_core.uda.step import StepRandom
from hrda_core.uda.style_hallucination import attached_styles, collect_style_prototypes

__all__ = ["renew_prototypes"]

_BATCH = 2
"""Images a pass, as the paper."""


def renew_prototypes(state: State, recipe: Recipe, source: SourceSamples | MixedSamples, runtime: Runtime) -> None:
    """Choose prototypes among the styles of all source images, before the first iteration and every `prototype_every`.

    Images pass through the training's transforms, without Rare Class Sampling. Other methods need no prototypes, so
    nothing is done for them.
    """
    if recipe.method != "domain_generalization" or state.iteration % recipe.generalization.prototype_every:
        return
    student = state.networks.student
    styles, encoder = attached_styles(student), student.backbone
    assert styles is not None
    assert isinstance(encoder, MixTransformer | TimmEncoder | PlainViT)
    random = StepRandom(recipe.seed, state.iteration)
    mean, std = collect_style_prototypes(
        encoder,
        (images.to(runtime.device, runtime.dtype) for images in _batches(source, random)),
        recipe.generalization.prototypes,
        random.shared("style prototypes"),
        scale=student.context_scale if isinstance(student, HRDA) else 1.0,
    )
    styles.set_prototypes(mean, std)


def _batches(source: SourceSamples | MixedSamples, random: StepRandom) -> Iterator[Tensor]:
    for start in range(0, len(source), _BATCH):
        indices = range(start, min(start + _BATCH, len(source)))
        images = [source.draw_from(index, random.image(index, "prototype image")).image for index in indices]
        yield torch.from_numpy(np.stack(images))
