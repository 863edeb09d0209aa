"""The four sizes of an adaptation, each with the machine that it fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hrda_core.errors import RecipeError

__all__ = ["EFFORTS", "Effort", "Labels", "effort_named"]

Labels = Literal["once", "teacher"]
"""Who labels the frames: the start gives whole frames labels once, or a teacher labels crops anew in each step."""


@dataclass(frozen=True)
class Effort:
    """One size of an adaptation.

    Attributes:
        name: name on the command line.
        text: what it does and what it fits, for `--help` and reports.
        frames: largest number of frames of the recording that are used.
        iterations: training steps; 0 = BatchNorm statistics only.
        crop_share: sides of the training crop as a share of the image's at inference size.
        crop_limit: largest side of the training crop, pixels.
        alpha: decay of the teacher's moving average, which spans 1 / (1 - alpha) steps.
        warmup: steps of learning rate warm-up.
        labels: where the labels of the recording's frames come from, by default. HRDA's teacher needs more steps and
            more frames than a drive has (docs/results/adaptation.md).
        mic: whether masked image consistency is on by default, beside a teacher.
    """

    name: str
    text: str
    frames: int
    iterations: int = 0
    crop_share: float = 0.55
    crop_limit: int = 512
    alpha: float = 0.99
    warmup: int = 20
    labels: Labels = "once"
    mic: bool = False


EFFORTS: Mapping[str, Effort] = {
    effort.name: effort
    for effort in (
        Effort("instant", "BatchNorm statistics of the recording, nothing trained: seconds anywhere", frames=48),
        Effort("quick", "160 steps on small crops: minutes on two CPU cores", frames=200, iterations=160),
        # The size of docs/results/adaptation.md, "What training on one drive adds".
        Effort(
            "normal",
            "600 steps on crops of two thirds of the image: 10 to 50 minutes on a CPU",
            frames=500,
            iterations=600,
            crop_share=0.72,
            alpha=0.995,
            warmup=30,
            mic=True,
        ),
        # The paper's (section 4.1): 40000 steps, warm-up 1500, alpha 0.999, crops of up to 1024.
        Effort(
            "full",
            "the paper's 40000 steps on crops of up to 1024 pixels: a day on a GPU",
            frames=4000,
            iterations=40000,
            crop_share=0.9,
            crop_limit=1024,
            alpha=0.999,
            warmup=1500,
            labels="teacher",
            mic=True,
        ),
    )
}
"""Name -> effort."""


def effort_named(name: str) -> Effort:
    """Return the effort of that name.

    Raises:
        RecipeError: there is none.
    """
    if name not in EFFORTS:
        raise RecipeError(f"effort '{name}' is not known; choose one of {', '.join(EFFORTS)}")
    return EFFORTS[name]
