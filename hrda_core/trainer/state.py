"""The state of a run: networks, optimisers, iteration.

It is started here, and saved to and restored from checkpoints.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hrda_core.errors import DataError, RecipeError, first_misfit, reason_of
from hrda_core.interop import load_backbone
from hrda_core.models import HRDA, Segmenter, create_model
from hrda_core.models.class_bias import ClassBias, metadata_of, with_bias
from hrda_core.models.finite_weights import check_finite
from hrda_core.models.mix_transformer import MixTransformer
from hrda_core.models.plain_vit import PlainViT
from hrda_core.models.presets import resolve_preset
from hrda_core.models.timm_encoder import TimmEncoder, load_imagenet_weights
from hrda_core.trainer.checkpoint import (
    Checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_tensors,
)
from hrda_core.trainer.guide import inherit, load_guide
from hrda_core.trainer.layout import lay_out
from hrda_core.trainer.optim import build_optimizer
from hrda_core.trainer.plain_vits import check_patches
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.resting import norm_layers, rest_weights, share_resting
from hrda_core.trainer.runtime import Runtime
from hrda_core.trainer.spaces import recipe_space
from hrda_core.trainer.start_weights import WEIGHTS_NAME, load_start
from hrda_core.trainer.sync_norm import synchronise_norms
from hrda_core.uda.adversarial import Discriminator, DiscriminatorConfig, build_discriminator_optimizer
from hrda_core.uda.step import Networks
from hrda_core.uda.style_hallucination import attach_styles, load_style_tensors, style_tensors

__all__ = ["WEIGHTS_NAME", "State", "shipped_weights", "start_state"]


@dataclass
class State:
    """Everything that a step changes.

    Attributes:
        networks: student, teacher (self-training) or moving average (supervised, distillation), ImageNet encoder,
            discriminator, guide.
        optimizer: optimiser of the student.
        discriminator_optimizer: optimiser of the discriminator, if there is one.
        iteration: steps done.
        weights_loaded: where the initial weights came from and how much of them fits, for the report.
    """

    networks: Networks
    optimizer: Any
    discriminator_optimizer: Any = None
    iteration: int = 0
    weights_loaded: dict[str, Any] = field(default_factory=dict)

    def trained(self) -> Iterator[nn.Parameter]:
        """Return the parameters that get gradients."""
        for network in (self.networks.student, self.networks.discriminator):
            if network is not None:
                yield from (parameter for parameter in network.parameters() if parameter.requires_grad)

    def checkpoint(self, recipe: Recipe) -> Checkpoint:
        """Return the state as tensors and plain values.

        The frozen ImageNet encoder and the guide are left out, because they are read from their files again.
        """
        tensors: dict[str, Tensor] = {"generator/torch": torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors["generator/cuda"] = torch.cuda.get_rng_state()
        networks = {"student": self.networks.student, "teacher": self.networks.teacher}
        for name, network in (networks | {"discriminator": self.networks.discriminator}).items():
            if network is not None:
                tensors |= {f"{name}/{key}": value for key, value in network.state_dict().items()}
        tensors |= {f"styles/{key}": value for key, value in style_tensors(self.networks.student).items()}
        tensors |= optimizer_tensors(_plain(self.optimizer), self.networks.student, "optimizer")
        if self.networks.discriminator is not None:
            discriminator = optimizer_tensors(
                _plain(self.discriminator_optimizer), self.networks.discriminator, "discriminator_optimizer"
            )
            tensors |= discriminator
        return Checkpoint(tensors, {"recipe": recipe.to_dict(), "iteration": self.iteration})

    def restore(self, saved: Checkpoint, recipe: Recipe) -> None:
        """Replace the state by a checkpoint's values.

        Raises:
            RecipeError: the checkpoint belongs to another recipe.
            DataError: its tensors do not fit the networks, or are not finite, or it is damaged otherwise.
        """
        try:
            self._take(saved, recipe)
        except torch.OutOfMemoryError:  # a RuntimeError too, and no fault of the file
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise DataError(f"the checkpoint is damaged ({reason_of(error)}); use another run folder") from error

    def _take(self, saved: Checkpoint, recipe: Recipe) -> None:
        _check_recipe(recipe.to_dict(), saved.values["recipe"])
        check_finite(saved.tensors, "the checkpoint has", "start a new run with a lower optim.lr", DataError)
        try:
            for name in ("student", "teacher", "discriminator"):
                network = getattr(self.networks, name)
                if network is not None:
                    network.load_state_dict(saved.below(name))
        except RuntimeError as error:
            reason = first_misfit(error)
            raise DataError(f"the checkpoint is one of another network ({reason}); use another run folder") from error
        load_style_tensors(self.networks.student, saved.below("styles"))
        restore_optimizer(_plain(self.optimizer), self.networks.student, saved.below("optimizer"))
        if self.networks.discriminator is not None:
            tensors = saved.below("discriminator_optimizer")
            restore_optimizer(_plain(self.discriminator_optimizer), self.networks.discriminator, tensors)
        self.iteration = int(saved.values["iteration"])
        if not 0 <= self.iteration <= recipe.iterations:
            raise ValueError(f"iteration {self.iteration} of {recipe.iterations}")
        torch.set_rng_state(saved.tensors["generator/torch"])
        if torch.cuda.is_available() and "generator/cuda" in saved.tensors:
            torch.cuda.set_rng_state(saved.tensors["generator/cuda"])


def start_state(recipe: Recipe, runtime: Runtime) -> State:
    """Build and fill the networks that the recipe's method needs, on the runtime's device.

    Raises:
        RecipeError: the recipe names no initial weights for the encoder, or values that contradict each other.
        DataError, CheckpointError: a weights file cannot be used.
    """
    classes = len(recipe_space(recipe))
    student = create_model(recipe.model.preset, num_classes=classes, **recipe.model.overrides)
    check_patches(student, recipe.crop)
    guide, inherited = None, None
    if recipe.method == "distillation" and recipe.distillation is not None:
        guide = load_guide(recipe.distillation.guide, classes)
        if recipe.model.weights is None:
            inherited = inherit(student, guide.network, recipe.distillation.start)
    loaded = inherited or load_start(student, recipe.model, classes)
    rest_weights(student, recipe.model)
    tuning = resolve_preset(recipe.model.preset, **recipe.model.overrides).tuning
    if tuning == "frozen" and recipe.needs_imagenet_encoder:
        raise RecipeError(
            "the feature distance of an encoder that rests is 0: switch it off with --feature_distance.weight 0, or "
            "take another model.overrides.tuning than frozen"
        )
    imagenet = _imagenet_encoder(student, recipe) if recipe.needs_imagenet_encoder else None
    discriminator = Discriminator(classes) if recipe.method == "adversarial" else None
    if runtime.processes > 1 and runtime.config.sync_norm:
        synchronise_norms(student)
    teacher = None
    if recipe.method == "self_training" or recipe.averages:
        teacher = copy.deepcopy(student).requires_grad_(False)
        share_resting(student, teacher)
    if recipe.method == "domain_generalization":
        attach_styles(student, recipe.generalization.prototypes)
    networks = Networks(student, teacher, imagenet, discriminator, guide)
    for network in (student, teacher, imagenet, discriminator, None if guide is None else guide.network):
        if network is not None:
            network.to(runtime.device, runtime.dtype)
            lay_out(network, student.backbone, runtime.config.channels_last)
    _prepare_encoder(student, runtime)
    optimizer = runtime.optimizer(build_optimizer(student, recipe.optim))
    second = None
    if discriminator is not None:
        second = runtime.optimizer(build_discriminator_optimizer(discriminator, DiscriminatorConfig()))
    return State(networks, optimizer, second, weights_loaded=loaded)


def shipped_weights(state: State, recipe: Recipe) -> dict[str, Tensor]:
    """Return the weights that are exported, which are the student's, as in the paper.

    `supervised` and `distillation` with `average` export the moving average with the student's BatchNorm statistics,
    since the average itself never ran in train mode.
    """
    weights = dict(state.networks.student.state_dict())
    if recipe.averages and state.networks.teacher is not None:
        weights |= dict(state.networks.teacher.named_parameters())
    return {name: value.detach().cpu().contiguous() for name, value in weights.items()}


def save_weights(state: State, recipe: Recipe, run: Path, bias: ClassBias) -> Path:
    """Write `shipped_weights`, with `bias` added to their classifier, to the run folder; return the path."""
    path = run / WEIGHTS_NAME
    save_tensors(path, with_bias(state.networks.student, shipped_weights(state, recipe), bias), metadata_of(bias))
    return path


def _imagenet_encoder(student: HRDA | Segmenter, recipe: Recipe) -> nn.Module:
    """The frozen encoder of the feature distance: always with ImageNet weights, whatever the student starts from."""
    config = recipe.model
    encoder = copy.deepcopy(student.backbone)
    if isinstance(encoder, PlainViT):
        encoder.drop_adapters()
    if config.weights is not None:
        if config.backbone is not None:
            load_backbone(encoder, config.backbone)
        elif isinstance(encoder, TimmEncoder) and config.imagenet:
            load_imagenet_weights(encoder)
        else:
            raise RecipeError(
                "the feature distance compares with an ImageNet encoder: give model.backbone, or switch it off with "
                "--feature_distance.weight 0"
            )
    encoder.requires_grad_(False).eval()
    share_resting(student.backbone, encoder)
    return encoder


def _prepare_encoder(student: HRDA | Segmenter, runtime: Runtime) -> None:
    encoder = student.backbone
    if runtime.config.gradient_checkpointing:
        blocks: Any = encoder if isinstance(encoder, PlainViT) else getattr(encoder, "body", None)
        if isinstance(encoder, MixTransformer):
            encoder.checkpoint_blocks = True
        elif hasattr(blocks, "set_grad_checkpointing"):
            # Blocks run twice, so BatchNorm layers in train mode would move their statistics twice.
            if any(layer.training and layer.weight.requires_grad for layer in norm_layers(encoder)):
                raise RecipeError("runtime.gradient_checkpointing with BatchNorm needs model.freeze_encoder_norm")
            switch: Callable[[bool], None] = blocks.set_grad_checkpointing
            switch(True)
        else:
            raise RecipeError("runtime.gradient_checkpointing: this encoder cannot; switch it off")
    if runtime.config.compile:
        encoder.compile()


def _check_recipe(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    # How a run is carried out may change between its parts; what it computes may not.
    free = ("runtime", "checkpoint_every", "evaluate_every", "pictures_every", "keep_best", "validation", "limits")
    fixed = set(ours) - {*free, "paper", "iterations", "logit_adjustment"}
    changed = sorted(key for key in fixed if ours[key] != theirs.get(key))
    if "label_space" in changed:
        one, two = (values.get("label_space") or {"name": "cityscapes19"} for values in (theirs, ours))
        raise RecipeError(
            f"the run to resume has the classes of '{one['name']}', the recipe those of '{two['name']}'; a network has "
            f"one label space: use another folder"
        )
    if changed:
        raise RecipeError(f"the run to resume has another recipe (differs in {', '.join(changed)}); use another folder")
    if ours["iterations"] < theirs["iterations"]:
        raise RecipeError(
            f"the run to resume has {theirs['iterations']} iterations, not {ours['iterations']}; give as many, or more "
            f"to train it longer"
        )


def _plain(optimizer: Any) -> torch.optim.Optimizer:
    """The optimiser below Fabric's wrapper."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
