"""How the networks of a run are used after it: at the scale and in the windows that its own report scores them with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrda_core.data.augmentation.transforms import CropConfig
from hrda_core.errors import TextError
from hrda_core.input_scale import InputScale, trained_sides
from hrda_core.trainer.journal import ENVIRONMENT_NAME
from hrda_core.trainer.recipe import Recipe
from hrda_core.untrusted_text import read_json_file
from hrda_core.window_plan import PlanChoice, Size

__all__ = ["RunUse", "SeenSizes", "run_use", "seen_sizes"]

_ENTRY = "sizes"


@dataclass(frozen=True)
class SeenSizes:
    """Sizes of the images of a run, kept in `environment.json`, since the data may be elsewhere when it is exported.

    Attributes:
        trained: see `hrda_core.input_scale.InputScale`; of the target where there is one, else of the source.
        largest: longest side of the images that were trained on (before the random scale), or scored in their own
            size, pixels; 0 = not known.
    """

    trained: Size | None = None
    largest: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of `environment.json`."""
        return {_ENTRY: {"trained": None if self.trained is None else list(self.trained), "largest": self.largest}}

    @classmethod
    def of_run(cls, run: Path) -> SeenSizes:
        """Read what a run left; runs of earlier releases left nothing."""
        try:
            entry = read_json_file(run / ENVIRONMENT_NAME)[_ENTRY]
            trained = entry["trained"]
            return cls(None if trained is None else (int(trained[0]), int(trained[1])), int(entry["largest"]))
        except (OSError, TextError, ValueError, LookupError, TypeError, OverflowError):
            return cls()


@dataclass(frozen=True)
class RunUse:
    """How an image is brought to the network of a run.

    Attributes:
        scale: how it is resized.
        choice: how it is cut into windows.
        origin: a sentence on where the two come from.
    """

    scale: InputScale
    choice: PlanChoice
    origin: str


def run_use(recipe: Recipe, run: Path, *, hrda: bool) -> RunUse:
    """Return how a run's networks are used: as its first validation set is scored.

    Without `resize` there, images are taken in their own size, but shrunk to the largest side that the run trained on
    or scored. Without any validation set, the resizing of the target's (else the source's) images counts.

    Args:
        hrda: whether the network is an HRDA, for the plan that is taken where the recipe names none.
    """
    seen, interpolation = SeenSizes.of_run(run), recipe.crop.interpolation
    if recipe.validation:
        first, *others = recipe.validation
        choice, resize, long_side = first.choice(hrda=hrda), first.resize, 0
        origin = f"as the run scores '{first.name}'"
        differ = [other.name for other in others if (other.resize, other.choice(hrda=hrda)) != (resize, choice)]
        if differ:
            origin += f", which differs from {', '.join(differ)}"
    else:
        place = recipe.target or recipe.crop
        choice, resize, long_side = PlanChoice("overlap" if hrda else "whole"), place.resize, place.long_side
        origin = "as the run trains, since it scores nothing"
    if resize is None and not long_side:
        long_side = seen.largest
    return RunUse(InputScale(long_side, resize, interpolation, seen.trained), choice, origin)


def seen_sizes(trained: Iterable[tuple[Sequence[Size], CropConfig]], scored: Iterable[Size]) -> SeenSizes:
    """Return the sizes of a run's images.

    Args:
        trained: for each data set of the domain that the network is for, height and width of the images as they lie on
            disk, and how they are resized and cropped.
        scored: height and width of the images that are scored in their own size.
    """
    sizes = [([crop.size(*size) for size in natives], crop) for natives, crop in trained]
    ranges = [found for seen, crop in sizes if (found := trained_sides(seen, crop.scale_min, crop.scale_max))]
    largest = max((max(size) for size in [*(size for seen, _ in sizes for size in seen), *scored]), default=0)
    whole = (min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None
    return SeenSizes(whole, largest)
