"""Which weights of a network rest in a training, and that they are held once: the student's copies, its teacher and the
encoder of the feature distance, have them in common with it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from hrda_core.models import HRDA, Segmenter
from hrda_core.models.plain_vit import PlainViT
from hrda_core.models.presets import resolve_preset
from hrda_core.trainer.recipe import ModelConfig

__all__ = ["norm_layers", "rest_weights", "share_resting"]


def rest_weights(network: HRDA | Segmenter, config: ModelConfig) -> None:
    """Take the gradients from what does not learn: frozen norms, and of a tuned plain ViT all but what was added to it.

    Raises:
        RecipeError: a preset or override is unknown.
    """
    encoder = network.backbone
    if config.freeze_encoder_norm:
        for module in norm_layers(encoder):
            module.requires_grad_(False)
    tuning = resolve_preset(config.preset, **config.overrides).tuning
    if tuning == "full" or not isinstance(encoder, PlainViT):
        return
    added = encoder.added
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name in added)


def share_resting(student: nn.Module, copied: nn.Module) -> None:
    """Let a copy hold the student's own parameters where these do not learn and the copy's are equal to them.

    The same `nn.Parameter` is in both networks afterwards, so it moves to another device, type or memory format with
    both. What differs, learns, or is in one of the two alone stays apart, and so do buffers, which a step changes.

    Args:
        student: the network that learns, or a part of it.
        copied: a copy of it on the same device, of which nothing learns.
    """
    resting = {name: parameter for name, parameter in student.named_parameters() if not parameter.requires_grad}
    for name, parameter in list(copied.named_parameters()):
        ours = resting.get(name)
        if ours is not None and torch.equal(ours, parameter):
            where, _, last = name.rpartition(".")
            setattr(copied.get_submodule(where), last, ours)


def norm_layers(module: nn.Module) -> Iterator[nn.Module]:
    """Return the BatchNorm layers of a network."""
    return (child for child in module.modules() if isinstance(child, nn.modules.batchnorm._BatchNorm))
