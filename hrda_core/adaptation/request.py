"""What an adaptation is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hrda_core.adaptation.efforts import Effort
from hrda_core.data.frame_selection.frame_selection import SelectionConfig
from hrda_core.errors import RecipeError
from hrda_core.inference.bundle import Bundle
from hrda_core.trainer.recipe import RuntimeConfig

__all__ = ["CHOICES", "Request"]

CHOICES = ("verdict", "given", "instant", "adapted")
"""Who chooses the model: the judgement, or the user."""


@dataclass(frozen=True)
class Request:
    """What is to be done.

    Attributes:
        bags: recordings of the target, without labels.
        topics: camera topics; empty = the only one.
        model: bundle to start from.
        source: pack or data set, see `open_or_make_pack`; empty = source-free.
        out: where the chosen bundle goes.
        work: working folder.
        effort: how much is done.
        mic: masked image consistency.
        frames: most frames to adapt on; 0 = the effort's.
        held_out: share of the recording's end that is judged on, 0 to 0.5.
        choose: one of `CHOICES`.
        eval_images, eval_labels: labelled images of the target, for the report alone; None = none.
        imagenet: ImageNet weights of the encoder, for the feature distance.
        runtime: device, threads, precision.
        seed: of all randomness.
        command: as it was called.
    """

    bags: tuple[Path, ...]
    model: Path
    out: Path
    work: Path
    effort: Effort
    topics: tuple[str, ...] = ()
    source: str = ""
    mic: bool = False
    frames: int = 0
    held_out: float = 0.25
    choose: str = "verdict"
    eval_images: Path | None = None
    eval_labels: Path | None = None
    imagenet: Path | None = None
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    seed: int = 0
    command: str = ""

    def __post_init__(self) -> None:
        if self.choose not in CHOICES:
            raise RecipeError(f"--choose is one of {', '.join(CHOICES)}, not '{self.choose}'")
        if not 0 < self.held_out <= 0.5:
            raise RecipeError(f"--held_out is a share above 0 and up to 0.5, not {self.held_out}")
        if self.frames < 0:
            raise RecipeError(f"--frames is 0 (as the effort says) or more, not {self.frames}")
        if self.choose == "adapted" and not self.effort.iterations:
            raise RecipeError("--choose adapted needs an effort that trains; effort instant does not")
        if self.out.resolve() == self.model.resolve():
            raise RecipeError(
                f"--out '{self.out}' is the given model; give another folder, the given one is never lost"
            )

    @property
    def selection(self) -> SelectionConfig:
        """How frames are chosen."""
        return SelectionConfig(budget=self.frames or self.effort.frames, held_out=self.held_out)

    def identity(self, given: Bundle) -> dict[str, Any]:
        """What the results depend on."""
        return {
            "bags": [str(bag.resolve()) for bag in self.bags],
            "topics": list(self.topics),
            "model": str(self.model.resolve()),
            "model_files": {name: record["sha256"] for name, record in given.manifest["files"].items()},
            "source": self.source and str(Path(self.source).resolve() if Path(self.source).exists() else self.source),
            "effort": self.effort.name,
            "mic": self.mic,
            "frames": self.frames or self.effort.frames,
            "held_out": self.held_out,
            "imagenet": str(self.imagenet or ""),
            "seed": self.seed,
        }
