"""Reads label files that are pictures: each class in the colour that it has in its label space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hrda_core.data.image_files import UInt8Array, opened_picture, pillow_errors
from hrda_core.errors import DataError, LabelSpaceError
from hrda_core.labels import IGNORE_LABEL, LabelSpace
from hrda_core.messages.picture_size import MAX_MEGAPIXELS

__all__ = ["ColorReader"]

_NAMED = 3  # colours that a sentence names


@dataclass(frozen=True)
class ColorReader:
    """A function from the path of a colour mask to class ids.

    Colours have to be exact. Black is no class unless a class is black, as in the masks that are drawn here.

    Attributes:
        space: the classes and their colours.

    Raises:
        LabelSpaceError: two classes have one colour.
    """

    space: LabelSpace

    def __post_init__(self) -> None:
        if len(set(self.space.palette)) < len(self.space):
            names: dict[tuple[int, int, int], str] = {}
            for name, colour in zip(self.space.classes, self.space.palette, strict=True):
                if colour in names:
                    raise LabelSpaceError(
                        f"label space '{self.space.name}': '{names[colour]}' and '{name}' both have the colour "
                        f"{colour}, so colour masks cannot be read; give each class a colour of its own"
                    )
                names[colour] = name

    def __call__(self, path: Path, max_megapixels: int = MAX_MEGAPIXELS) -> UInt8Array:
        """Read class ids, uint8 (H, W), 255 = no class.

        Raises:
            DataError: the file is no picture, has more million pixels than `max_megapixels`, or holds colours of no
                class; they are named with their pixels.
        """
        codes = _codes(_read(path, max_megapixels))
        palette = _codes(np.asarray([*self.space.palette, (0, 0, 0)], np.uint8))
        ids = np.asarray([*range(len(self.space)), IGNORE_LABEL], np.uint8)
        # The first of equal colours counts: a class that is black comes before the black of no class.
        known, first = np.unique(palette, return_index=True)
        place = np.searchsorted(known, codes).clip(max=len(known) - 1)
        unknown = known[place] != codes
        if unknown.any():
            raise DataError(self._complaint(path, codes[unknown], codes.size))
        return np.asarray(ids[first][place], np.uint8)

    def _complaint(self, path: Path, codes: npt.NDArray[np.int32], pixels: int) -> str:
        colours, counts = np.unique(codes, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        named = ", ".join(f"{_colour(int(colours[row]))} ({int(counts[row])})" for row in order[:_NAMED])
        others = f" and {len(colours) - _NAMED} more" if len(colours) > _NAMED else ""
        return (
            f"'{path}': {len(codes)} of {pixels} pixels have colours of no class of '{self.space.name}': RGB {named}"
            f"{others}; give a label space file with the right palette"
        )


def _read(path: Path, max_megapixels: int = MAX_MEGAPIXELS) -> UInt8Array:
    try:
        with opened_picture(path, max_megapixels) as file:
            return np.asarray(file.convert("RGB"), np.uint8)
    except pillow_errors() as error:
        raise DataError(f"'{path}' is not a colour mask ({error}); expected a PNG in the colours of classes") from error


def _codes(rgb: UInt8Array) -> npt.NDArray[np.int32]:
    wide = rgb.astype(np.int32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], np.int32)


def _colour(code: int) -> str:
    return f"({code >> 16}, {code >> 8 & 255}, {code & 255})"
