"""Chooses the step of `hrda_core.uda` that a recipe's method takes, and prepares the networks for it."""

from __future__ import annotations

from hrda_core.models.presets import resolve_preset
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.resting import norm_layers
from hrda_core.trainer.spaces import recipe_space
from hrda_core.trainer.state import State
from hrda_core.uda.baselines import adversarial_step, entropy_step
from hrda_core.uda.distillation import distillation_step
from hrda_core.uda.domain_generalization import domain_generalization_step
from hrda_core.uda.self_training import ImageSpace, draw_step, self_training_step
from hrda_core.uda.step import Batch, StepContext, StepRandom, StepResult
from hrda_core.uda.supervised import supervised_step
from hrda_core.uda.teacher import update_teacher

__all__ = ["finish_step", "image_space", "prepare_networks", "take_step"]


def image_space(recipe: Recipe) -> ImageSpace:
    """Return classes and normalisation of the recipe's network."""
    network, space = resolve_preset(recipe.model.preset, **recipe.model.overrides), recipe_space(recipe)
    return ImageSpace(len(space), space.things, network.mean, network.std)


def prepare_networks(state: State, recipe: Recipe) -> None:
    """Set the student to train mode (except encoder norms that are frozen), and update the teacher.

    As in the reference the average is taken before the step, so it contains the student after the previous one.
    """
    student = state.networks.student
    student.train()
    if recipe.model.freeze_encoder_norm:
        for module in norm_layers(student.backbone):
            module.eval()
    if recipe.method == "self_training":
        assert state.networks.teacher is not None
        update_teacher(state.networks.teacher, student, state.iteration, recipe.self_training.alpha)


def take_step(state: State, recipe: Recipe, batch: Batch, random: StepRandom, context: StepContext) -> StepResult:
    """Compute losses and gradients of one iteration, without an optimiser step."""
    networks, space = state.networks, image_space(recipe)
    if recipe.method == "supervised":
        return supervised_step(batch, networks, random, recipe.loss, context)
    if recipe.method == "self_training":
        draws = draw_step(batch, networks.student, random, recipe.self_training, context)
        return self_training_step(
            batch, networks, draws, space, recipe.self_training, recipe.loss, recipe.feature_distance, context
        )
    if recipe.method == "domain_generalization":
        return domain_generalization_step(
            batch, networks, random, space, recipe.generalization, recipe.loss, recipe.feature_distance, context
        )
    if recipe.method == "distillation":
        assert recipe.distillation is not None
        return distillation_step(batch, networks, random, space, recipe.distillation, recipe.loss, context)
    if recipe.method == "entropy":
        return entropy_step(batch, networks, random, recipe.loss, recipe.entropy_weight, context)
    return adversarial_step(batch, networks, random, recipe.loss, recipe.adversarial_weight, context)


def finish_step(state: State, recipe: Recipe) -> None:
    """Update the moving average that will be exported, after the optimiser's step."""
    if recipe.averages and state.networks.teacher is not None:
        update_teacher(state.networks.teacher, state.networks.student, state.iteration, recipe.average)
