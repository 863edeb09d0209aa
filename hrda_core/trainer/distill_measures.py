"""The result of a distillation: agreement with the larger network, and scores, operations and parameters of both."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.data.datasets.labelled import ImageLabelPairs
from hrda_core.data.frames import UnlabelledFrames, evenly_spaced
from hrda_core.input_scale import InputScale
from hrda_core.labels import ClassGroups
from hrda_core.metrics import score
from hrda_core.models.hrda import HRDA
from hrda_core.trainer.validation import predict_labels
from hrda_core.uda.step import Guide
from hrda_core.window_plan import PlanChoice, Size
from hrda_core.windows.flops import plan_flops

__all__ = ["Comparison", "Measured", "agreement", "measure", "predictor"]

UInt8Array = npt.NDArray[np.uint8]
Predict = Callable[[UInt8Array], UInt8Array]

_MOST_FRAMES = 50


@dataclass(frozen=True)
class Measured:
    """Measures of one of the two networks.

    Attributes:
        parameters: number of all parameters.
        gflop: operations for one image of `Comparison.size`, in the window plan that a bundle runs by default.
        mean_iou, boundary_f: 0..1, on labelled images; None without any.
    """

    parameters: int
    gflop: float
    mean_iou: float | None = None
    boundary_f: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Measures of the larger and the slim network on the same images.

    Attributes:
        larger, slim: measures of each network.
        agreement: share of pixels to which both give the same class, 0..1.
        frames: number of images that the agreement was measured on; none of them was trained on.
        size: height and width of the image that operations are counted for.
        plan: window plan of all figures.
        groups: groups of classes that were scored; empty without labels.
    """

    larger: Measured
    slim: Measured
    agreement: float
    frames: int
    size: tuple[int, int]
    plan: str
    groups: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"size": list(self.size)}

    def table(self) -> str:
        """Return the figures as text, one on each line."""
        height, width = self.size
        rows = [
            ("", "larger", "slim"),
            ("parameters, million", *(f"{model.parameters / 1e6:.2f}" for model in (self.larger, self.slim))),
            (f"GFLOP, {width}x{height}, {self.plan}", *(f"{model.gflop:.2f}" for model in (self.larger, self.slim))),
        ]
        if self.larger.mean_iou is not None and self.slim.mean_iou is not None:
            rows.append((f"mIoU ({self.groups}), %", *(_percent(m.mean_iou) for m in (self.larger, self.slim))))
            rows.append(("boundary F, %", *(_percent(m.boundary_f) for m in (self.larger, self.slim))))
        lines = [f"{name:<28}{larger:>10}{slim:>10}" for name, larger, slim in rows]
        return "\n".join([*lines, f"agreement: {100 * self.agreement:.2f} % of the pixels of {self.frames} images"])


def measure(
    larger: Guide,
    slim: Guide,
    frames: UnlabelledFrames,
    *,
    grid: tuple[int, int],
    scale: InputScale,
    labelled: ImageLabelPairs | None = None,
    groups: ClassGroups | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Compare two networks in PyTorch.

    Args:
        frames: images that neither network was trained on; at most 50 of them are taken, evenly spaced.
        grid: rows and columns of detail tiles of both.
        scale: how images are resized before both see them.
        labelled: images with labels, for scores.
        groups: groups of classes that are scored.
        progress: called with the number of labelled images done and of all, for each network.
    """
    predicts = [predictor(model, grid, scale) for model in (larger, slim)]
    first = frames.load(0)
    size = scale.size(first.shape[0], first.shape[1])
    measured = []
    for model, predict in zip((larger, slim), predicts, strict=True):
        found = None
        if labelled is not None and groups is not None:
            found = score(predict, labelled, groups, progress=progress)
        measured.append(
            Measured(
                sum(parameter.numel() for parameter in model.network.parameters()),
                plan_flops(model.network, _choice(model, grid), *size).giga,
                None if found is None else _number(found.mean_iou),
                None if found is None else _number(found.boundary_f),
            )
        )
    taken = evenly_spaced(range(len(frames)), _MOST_FRAMES)
    return Comparison(
        larger=measured[0],
        slim=measured[1],
        agreement=agreement(predicts[0], predicts[1], [frames.load(index) for index in taken]),
        frames=len(taken),
        size=size,
        plan=_choice(slim, grid).name,
        groups="" if labelled is None or groups is None else groups.name,
    )


def agreement(one: Predict, other: Predict, images: list[UInt8Array]) -> float:
    """Return the share of pixels, 0..1, to which two models give the same class."""
    same = sum(int((one(image) == other(image)).sum()) for image in images)
    return float(same / sum(image.shape[0] * image.shape[1] for image in images))


def predictor(model: Guide, grid: tuple[int, int], scale: InputScale) -> Predict:
    """Return a function from an RGB image uint8 (H, W, 3) to class ids uint8 (H, W), in the plan that a bundle runs."""

    def predict(rgb: UInt8Array) -> UInt8Array:
        size, seen = (rgb.shape[0], rgb.shape[1]), scale.apply(rgb)
        return predict_labels(model.network, seen, size, model.mean, model.std, _choice(model, grid))

    return predict


def _choice(model: Guide, grid: Size) -> PlanChoice:
    return PlanChoice("tiles", grid) if isinstance(model.network, HRDA) else PlanChoice("whole")


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
