"""Inference on bundles: `Predictor("models/hrda_lite")(rgb)`. numpy, PyYAML, OpenCV and one back end; no torch."""

from hrda_core.inference.bundle import Bundle
from hrda_core.inference.predictor import Prediction, Predictor
from hrda_core.window_plan import CropBox, WindowPlan, plan_windows

__all__ = ["Bundle", "CropBox", "Prediction", "Predictor", "WindowPlan", "plan_windows"]
