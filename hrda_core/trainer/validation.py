"""Scores the networks of a run on its validation sets, in PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from hrda_core.data.augmentation.transforms import normalise
from hrda_core.data.datasets.labelled import ImageLabelPairs
from hrda_core.metrics import score
from hrda_core.models.class_bias import ClassBias, raised
from hrda_core.models.hrda import HRDA
from hrda_core.resizing import keep_ratio_size, resize_image
from hrda_core.trainer.journal import Journal
from hrda_core.trainer.methods import image_space
from hrda_core.trainer.recipe import Recipe
from hrda_core.trainer.recipe_data import ValidationConfig
from hrda_core.trainer.sources import validation_groups
from hrda_core.trainer.spaces import recipe_space
from hrda_core.trainer.state import State, shipped_weights
from hrda_core.window_plan import PlanChoice, Size
from hrda_core.windows.class_bands import predict_classes
from hrda_core.windows.torch_windows import predict_logits

__all__ = ["predict_labels", "predictor", "validate"]

UInt8Array = npt.NDArray[np.uint8]


def validate(
    state: State,
    recipe: Recipe,
    sets: Sequence[ImageLabelPairs],
    journal: Journal,
    say: Callable[[str], None],
    *,
    both: bool,
    bias: ClassBias = (),
) -> dict[str, dict[str, Any]]:
    """Score the student (with `both` also the teacher) on every validation set; write scores to journal and log.

    Where a moving average is exported, the student is scored with these weights, and there is no teacher.

    Args:
        sets: the pairs of the recipe's validation sets, in its order, that passed their audit.
        bias: what the recipe's logit adjustment adds; the networks are scored with it and left without it.

    Returns:
        the student's scores by validation set, as the journal keeps them.
    """
    networks = _networks(state, recipe, both)
    found: dict[str, dict[str, Any]] = {}
    for config, pairs in zip(recipe.validation, sets, strict=True):
        groups = validation_groups(config, recipe_space(recipe))
        for name, network in networks.items():
            with raised(network, bias):
                result = score(predictor(network, recipe, config), pairs, groups)
            journal.evaluation(state.iteration, name, config.name, result.to_dict())
            if name == "student":
                found[config.name] = result.to_dict()
            say(f"{config.name}, {name}: mIoU {100 * result.mean_iou:.1f} %")
    return found


def _networks(state: State, recipe: Recipe, both: bool) -> dict[str, nn.Module]:
    student, teacher = state.networks.student, state.networks.teacher
    if recipe.averages and teacher is not None:
        exported = copy.deepcopy(teacher)
        exported.load_state_dict(shipped_weights(state, recipe))
        return {"student": exported}
    return {"student": student} if teacher is None or not both else {"student": student, "teacher": teacher}


def predictor(network: nn.Module, recipe: Recipe, config: ValidationConfig) -> Callable[[UInt8Array], UInt8Array]:
    """Return a function from an RGB image uint8 (H, W, 3) to class ids uint8 (H, W), with the network in eval mode."""
    space = image_space(recipe)
    choice = config.choice(hrda=isinstance(network, HRDA))

    def predict(rgb: UInt8Array) -> UInt8Array:
        size = rgb.shape[0], rgb.shape[1]
        resized = resize_image(rgb, *keep_ratio_size(*size, config.resize), recipe.crop.interpolation)
        was_training = network.training
        network.eval()
        labels = predict_labels(network, resized, size, space.mean, space.std, choice)
        network.train(was_training)
        return labels

    return predict


@torch.no_grad()
def predict_labels(
    network: nn.Module,
    rgb: UInt8Array,
    size: Size,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    plan: str | PlanChoice,
) -> UInt8Array:
    """Predict the class ids of one image. As in the paper, logits are enlarged to `size` before the class is chosen.

    Args:
        rgb: uint8 (H, W, 3), resized as the network is to see it.
        size: height and width of the result.
        mean, std: normalisation, RGB on the 0..255 scale.
        plan: see `predict_logits`, which also lists the errors.

    Returns:
        uint8 of `size`.
    """
    weights = next(network.parameters())
    image = torch.from_numpy(normalise(rgb, mean, std))[None].to(weights.device, weights.dtype)
    if tuple(image.shape[2:]) == tuple(size):
        found = predict_classes(network, image, plan)[0][0]
    else:
        logits = predict_logits(network, image, plan)
        found = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0].argmax(0).to(torch.uint8)
    labels: UInt8Array = found.cpu().numpy()
    return labels
