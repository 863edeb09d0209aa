"""Label spaces: class names, colours, thing classes, and the groups that scores are reported in. numpy only.

The default space is the 19 Cityscapes training classes; 255 marks pixels without a label everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.errors import LabelSpaceError

__all__ = ["CAMVID11", "CITYSCAPES19", "EVALUATION_GROUPS", "IGNORE_LABEL", "ClassGroups", "LabelSpace"]

IGNORE_LABEL = 255
"""Label id of a pixel that carries no class: left out of losses and scores, drawn black."""

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelSpace:
    """Names, colours and thing classes of ids 0 to N-1.

    Attributes:
        name: short key, stored in bundles.
        classes: N class names; a class id is its index.
        palette: N colours, RGB 0 to 255.
        things: ids of countable objects (the classes of the Thing-Class Feature Distance; paper section 3.3).

    Raises:
        LabelSpaceError: lengths differ, names repeat, or an id or colour is out of range.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    things: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.classes)
        where = f"label space '{self.name}'"
        if not 1 <= count <= IGNORE_LABEL:
            raise LabelSpaceError(f"{where} has {count} classes; expected 1 to {IGNORE_LABEL}")
        if len(self.palette) != count:
            raise LabelSpaceError(f"{where} has {count} classes but {len(self.palette)} colours; give one for each")
        if len(set(self.classes)) != count:
            raise LabelSpaceError(f"{where} names a class twice; make the names unique")
        if any(len(colour) != 3 or not all(0 <= value <= 255 for value in colour) for colour in self.palette):
            raise LabelSpaceError(f"{where} has a colour that is not three values from 0 to 255")
        if any(not 0 <= thing < count for thing in self.things):
            raise LabelSpaceError(f"{where} lists a thing class outside 0..{count - 1}: {list(self.things)}")

    def __len__(self) -> int:
        return len(self.classes)

    def color_table(self) -> UInt8Array:
        """Lookup table of all 256 ids, uint8 (256, 3) RGB; unknown ids and 255 are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = np.asarray(self.palette, np.uint8)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings, for a manifest."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "palette": [list(colour) for colour in self.palette],
            "things": list(self.things),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelSpace:
        """Read what `to_dict` wrote.

        Raises:
            LabelSpaceError: a key is missing or its value has the wrong shape.
        """
        try:
            return cls(
                name=str(values["name"]),
                classes=tuple(str(name) for name in values["classes"]),
                palette=tuple((int(r), int(g), int(b)) for r, g, b in values["palette"]),
                things=tuple(int(thing) for thing in values.get("things", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise LabelSpaceError(
                f"a label space needs 'name', 'classes' (names) and 'palette' (RGB triples); {error!r} went wrong"
            ) from error


@dataclass(frozen=True)
class ClassGroups:
    """A coarser set of classes that scores are reported in.

    Attributes:
        name: short key, as in `hrda evaluate --groups NAME`.
        groups: group name to the class ids of the finer space that count as it.
    """

    name: str
    groups: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Group names, in the order of the group ids."""
        return tuple(name for name, _ in self.groups)

    def table(self) -> UInt8Array:
        """Lookup table of all 256 fine ids to group ids, uint8 (256,); ids in no group become `IGNORE_LABEL`."""
        table = np.full(256, IGNORE_LABEL, np.uint8)
        for group, (_, members) in enumerate(self.groups):
            table[list(members)] = group
        return table


CITYSCAPES19 = LabelSpace(
    name="cityscapes19",
    classes=(
        "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
        "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ),
    palette=(
        (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
        (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
        (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
    ),
    things=(6, 7, 11, 12, 13, 14, 15, 16, 17, 18),
)  # fmt: skip

CAMVID11 = ClassGroups(
    name="camvid11",
    groups=(
        ("sky", (10,)),
        ("building", (2, 3)),
        ("pole", (5,)),
        ("road", (0,)),
        ("sidewalk", (1,)),
        ("vegetation", (8, 9)),
        ("traffic sign", (6, 7)),
        ("fence", (4,)),
        ("car", (13, 14, 15, 16)),
        ("person", (11,)),
        ("rider", (12, 17, 18)),
    ),
)

EVALUATION_GROUPS: dict[str, ClassGroups] = {CAMVID11.name: CAMVID11}
