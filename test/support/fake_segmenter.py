"""The least that the node takes for a model: no graph, no back end. Tests add masks, errors and counters to it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from hrda_core.inference import Prediction
from hrda_core.inference.bundle import GraphSpec
from hrda_core.labels import CITYSCAPES19, LabelSpace
from hrda_core.window_plan import PlanChoice


class FakeSegmenter:
    """Every pixel has the class `label`.

    Attributes:
        closed: how often it was closed.
    """

    plan = "tiles"
    graph = GraphSpec(PlanChoice("tiles"), "none")
    backend_description = "none"

    def __init__(self, name: str, label: int = 0, space: LabelSpace = CITYSCAPES19) -> None:
        self.bundle = SimpleNamespace(name=name, preset="none", label_space=space, static_graphs=())
        self.label, self.closed = label, 0

    def warm_up(self, height: int, width: int) -> None:
        """Nothing to do."""

    def __call__(self, rgb: np.ndarray) -> Prediction:
        labels = np.full(rgb.shape[:2], self.label, np.uint8)
        return Prediction(labels, labels)

    def close(self) -> None:
        """Count it."""
        self.closed += 1
