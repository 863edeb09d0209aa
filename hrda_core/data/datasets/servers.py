"""What the test servers of public data sets want: one table of file names, folders and ids.

What a row says is quoted, not measured: we have uploaded nothing. Cityscapes: its evaluation script and
https://github.com/mcordts/cityscapesScripts/issues/65. ACDC and Dark Zurich: the folder of train ids that published
commands for their servers write; the three folders of Dark Zurich: https://github.com/W-zx-Y/DANNet/issues/4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrda_core.data.datasets.layouts import LAYOUTS
from hrda_core.data.frames import ImageFrames
from hrda_core.data.image_files import UInt8Array
from hrda_core.errors import DataError, RecipeError
from hrda_core.labels import CITYSCAPES19, CITYSCAPES_IDS, LabelSpace

__all__ = ["SERVERS", "Server"]

_SPLIT = "test"
_NAMED = 3  # classes that a sentence names


@dataclass(frozen=True)
class Server:
    """The files that a server takes.

    Attributes:
        layout: name of the data set's layout, and of the server.
        image: regular expression of the file name of a test image.
        example: such a name.
        file: file name of its masks, with groups of `image`.
        folders: folders of the masks; each gets all of them.
        confidence: folder of the confidence masks; empty = none.
        native: whether a pixel is an id of the data set's label files (0 to 33) instead of a train id (0 to 18).
    """

    layout: str
    image: str
    example: str
    file: str
    folders: tuple[str, ...]
    confidence: str = ""
    native: bool = False

    def images(self, paths: Sequence[Path]) -> list[Path]:
        """Return the test images: those of a data set as downloaded, or all image files that are given.

        Raises:
            DataError: there are none, or a name is not one of a test image.
        """
        row = LAYOUTS[self.layout]
        found: list[Path] = []
        for path in paths:
            if (path / row.images.split("/")[0]).is_dir():
                found += row.find_images(path, _SPLIT).values()
            else:
                found += ImageFrames.find(path) if path.is_dir() else [path]
        odd = [path for path in found if re.fullmatch(self.image, path.name) is None]
        if odd:
            raise DataError(
                f"{len(odd)} of {len(found)} images have no name of {row.title}'s test images, the first: '{odd[0]}'; "
                f"expected names like {self.example}: give the data set's folder, or that of its test images"
            )
        return found

    def file_name(self, image: str) -> str:
        """Return the file name of the masks of a test image, given its own without folders."""
        return re.sub(self.image, self.file, image)

    def ids(self, space: LabelSpace) -> UInt8Array:
        """Return a lookup table, uint8 (256,), from a model's class ids to those of the server.

        Raises:
            RecipeError: the model has a class that the data set does not have.
        """
        other = [name for name in space.classes if name not in CITYSCAPES19.classes]
        if other:
            more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
            raise RecipeError(
                f"the server of {LAYOUTS[self.layout].title} knows only the {len(CITYSCAPES19)} classes of "
                f"{CITYSCAPES19.name}, but the model has {', '.join(other[:_NAMED])}{more}; give a model of its classes"
            )
        table = np.zeros(256, np.uint8)
        for label, name in enumerate(space.classes):
            train_id = CITYSCAPES19.classes.index(name)
            table[label] = np.flatnonzero(CITYSCAPES_IDS.table == train_id)[0] if self.native else train_id
        return table


_ANONYMOUS = r"(\w+_frame_\d+)_rgb_anon\.png"

SERVERS: Mapping[str, Server] = {
    server.layout: server
    for server in (
        Server(
            "cityscapes",
            r"([a-z-]+_\d{6}_\d{6})_leftImg8bit\.png",
            "berlin_000000_000019_leftImg8bit.png",
            r"\1_labelIds.png",
            ("labelIds",),
            native=True,
        ),
        Server("acdc", _ANONYMOUS, "GOPR0475_frame_000041_rgb_anon.png", r"\1_rgb_anon.png", ("labelTrainIds",)),
        Server(
            "dark_zurich",
            _ANONYMOUS,
            "GOPR0364_frame_000001_rgb_anon.png",
            r"\1_rgb_anon.png",
            ("labelTrainIds", "labelTrainIds_invalid"),
            "confidence",
        ),
    )
}
"""Name of the server -> row."""
