"""The few images that go with a bundle, `samples/`: graphs for one image size are compared with PyTorch on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrda_core.data.frames import UnlabelledFrames, evenly_spaced
from hrda_core.data.image_files import encoded
from hrda_core.inference.bundle import SAMPLES_FOLDER
from hrda_core.whole_files import write_whole

__all__ = ["MOST", "Samples"]

MOST = 4
"""Images that a bundle gets: enough to compare on, and well below a megabyte."""

NOTICE = "NOTICE.md"
_QUALITY = 92


@dataclass(frozen=True)
class Samples:
    """Images for the folder `samples` of a bundle.

    Attributes:
        images: uint8 (H, W, 3) RGB, the most telling one first.
        origin: a sentence on what they show and under which licence.
    """

    images: tuple[npt.NDArray[np.uint8], ...]
    origin: str

    @classmethod
    def of(cls, frames: UnlabelledFrames, origin: str, most: int = MOST) -> Samples:
        """Take frames that are evenly spaced.

        Raises:
            DataError: a frame cannot be read.
        """
        return cls(tuple(frames.load(index) for index in evenly_spaced(range(len(frames)), most)), origin)

    def write(self, bundle: Path) -> None:
        """Write the images as JPEG files, and their origin, into an unfinished bundle."""
        folder = bundle / SAMPLES_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(self.images):
            write_whole(folder / f"{number}.jpg", encoded(image, ".jpg", _QUALITY))
        write_whole(folder / NOTICE, f"Images on which `hrda export` compares graphs with PyTorch. {self.origin}\n")
