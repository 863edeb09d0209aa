"""Inference on bundles: `Predictor("models/hrda_lite")(rgb)`. Needs numpy, PyYAML, OpenCV and one back end, no torch.

`predict_logits(model, image, plan="nested")` and the functions beside it run PyTorch networks; they load torch when
they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hrda_core.inference.bundle import Bundle
from hrda_core.inference.predictor import Prediction, Predictor
from hrda_core.window_plan import CropBox, PlanChoice, WindowPlan, plan_windows

if TYPE_CHECKING:
    from hrda_core.windows.flops import plan_flops
    from hrda_core.windows.torch_windows import predict_logits, predict_probs

__all__ = [
    "Bundle",
    "CropBox",
    "PlanChoice",
    "Prediction",
    "Predictor",
    "WindowPlan",
    "plan_flops",
    "plan_windows",
    "predict_logits",
    "predict_probs",
]

_NEEDS_TORCH = {"plan_flops": "flops", "predict_logits": "torch_windows", "predict_probs": "torch_windows"}


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"hrda_core.windows.{_NEEDS_TORCH[name]}"), name)
