"""The network of a training run as a function from an image to class ids, in PyTorch.

A bundle is scored by `hrda_core.inference.Predictor`; this is for runs that are not exported, and for the window plans
that a bundle cannot carry (`nested`, `overlap`, `whole`, `slide`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hrda_core.errors import RecipeError
from hrda_core.inference.say import Level, Say, silent
from hrda_core.models import HRDA
from hrda_core.models.presets import resolve_preset
from hrda_core.trainer.loading import load_network, load_recipe
from hrda_core.trainer.run_use import run_use
from hrda_core.trainer.validation import predict_labels
from hrda_core.window_plan import PlanChoice
from hrda_core.windows.torch_windows import plan_for

__all__ = ["RunPredictor"]

UInt8Array = npt.NDArray[np.uint8]


class RunPredictor:
    """A run's network, ready to segment images; the result has the image's size.

    Args:
        run: folder of a training run.
        network: `student` or `teacher`, see `hrda_core.trainer.loading.load_network`.
        plan: window plan; empty = that of the run's report (`hrda_core.trainer.run_use`), with its windows.
        which: `last` or `best`, see `load_network`.
        device: `auto`, `cpu` or `cuda`.
        resize: largest width and height of an image before prediction, ratio kept; None = as in the run's report.
            Logits are resized to the image's own size before the class is chosen.
        long_side: shrink larger images to this longer side and do no other resizing, pixels; 0 = never; None = as in
            the run's report.
        say: takes, once, the warning that images are much larger or smaller than those of the training.

    Raises:
        DataError: the run has no such network, or its files cannot be read.
        RecipeError, BackendError: the network, device or plan is unknown.
    """

    def __init__(
        self,
        run: Path,
        network: str = "student",
        plan: str = "",
        *,
        which: str = "last",
        device: str = "auto",
        resize: tuple[int, int] | None = None,
        long_side: int | None = None,
        say: Say = silent,
    ) -> None:
        recipe = load_recipe(run)
        self._device = _device(device)
        self._network = load_network(run, network, which).to(self._device)
        self.name = recipe.name
        use = run_use(recipe, run, hrda=isinstance(self._network, HRDA))
        self._choice = PlanChoice(plan) if plan and plan != use.choice.name else use.choice
        self.scale, self.origin = use.scale, use.origin
        if resize is not None:
            self.scale = replace(self.scale, resize=resize, long_side=0)
        elif long_side is not None:
            self.scale = self.scale.only(long_side)
        self._say: Say | None = say
        # An unknown plan is refused now, not after the data is opened.
        plan_for(self._network, self._choice, 512, 512)
        values = resolve_preset(recipe.model.preset, **recipe.model.overrides)
        self._mean, self._std = values.mean, values.std

    @property
    def plan(self) -> str:
        """Name of the window plan."""
        return self._choice.name

    @property
    def description(self) -> str:
        """A line on what runs where."""
        place = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "CPU"
        return f"PyTorch {torch.__version__} on {place}"

    def __call__(self, rgb: UInt8Array) -> UInt8Array:
        """Class ids of an RGB image: uint8 (H, W, 3) -> uint8 (H, W)."""
        size = rgb.shape[0], rgb.shape[1]
        warning = self.scale.warning(*size)
        if warning and self._say is not None:
            self._say(warning, Level.WARNING)
            self._say = None
        return predict_labels(self._network, self.scale.apply(rgb), size, self._mean, self._std, self._choice)


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise RecipeError(f"--device is auto, cpu or cuda, not '{name}'")
    if name == "cuda" and not torch.cuda.is_available():
        raise RecipeError("--device cuda: PyTorch finds no CUDA device here; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
