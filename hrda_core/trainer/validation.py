"""Scores of the networks of a run on its validation sets, in PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from hrda_core.data.augmentation.transforms import keep_ratio_size, normalise, resize_image
from hrda_core.metrics import score
from hrda_core.models.hrda import HRDA
from hrda_core.trainer.journal import Journal
from hrda_core.trainer.methods import image_space
from hrda_core.trainer.recipe import Recipe, ValidationConfig
from hrda_core.trainer.sources import open_validation, validation_groups
from hrda_core.trainer.state import State
from hrda_core.windows.torch_windows import predict_logits

__all__ = ["predictor", "validate"]

UInt8Array = npt.NDArray[np.uint8]


def validate(state: State, recipe: Recipe, journal: Journal, say: Callable[[str], None], *, both: bool) -> None:
    """Score the student (and with `both` the teacher) on every validation set; into the journal and a line each."""
    networks: dict[str, nn.Module] = {"student": state.networks.student}
    if both and state.networks.teacher is not None:
        networks["teacher"] = state.networks.teacher
    for config in recipe.validation:
        pairs, groups = open_validation(config), validation_groups(config)
        for name, network in networks.items():
            result = score(predictor(network, recipe, config), pairs, groups)
            journal.evaluation(state.iteration, name, config.name, result.to_dict())
            say(f"{config.name}, {name}: mIoU {100 * result.mean_iou:.1f} %")


def predictor(network: nn.Module, recipe: Recipe, config: ValidationConfig) -> Callable[[UInt8Array], UInt8Array]:
    """A function from an RGB image uint8 (H, W, 3) to class ids uint8 (H, W), with the network in eval mode.

    As in the paper, logits are enlarged to the image's size before the argmax.
    """
    space = image_space(recipe)
    plan = config.plan or ("overlap" if isinstance(network, HRDA) else "whole")
    weights = next(network.parameters())

    @torch.no_grad()
    def predict(rgb: UInt8Array) -> UInt8Array:
        size = (rgb.shape[0], rgb.shape[1])
        image = normalise(resize_image(rgb, *keep_ratio_size(*size, config.resize)), space.mean, space.std)
        was_training = network.training
        network.eval()
        batch = torch.from_numpy(image)[None].to(weights.device, weights.dtype)
        logits = predict_logits(network, batch, plan, crop=config.window)
        network.train(was_training)
        if logits.shape[2:] != size:
            logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        labels: UInt8Array = logits[0].argmax(0).to(torch.uint8).cpu().numpy()
        return labels

    return predict
