"""Label spaces: class names, colours, thing classes, tables of native ids, and the groups that scores are reported in.

The default space is the 19 training classes of Cityscapes. The id 255 always marks pixels without a label. The module
needs numpy alone; `hrda_core.label_files` reads spaces and groups from files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.errors import LabelSpaceError, shown

__all__ = [
    "CAMVID11",
    "CITYSCAPES19",
    "CITYSCAPES_IDS",
    "EVALUATION_GROUPS",
    "IDD7",
    "IGNORE_LABEL",
    "MAPILLARY_IDS",
    "SYNTHIA13",
    "SYNTHIA16",
    "SYNTHIA_IDS",
    "ClassGroups",
    "IdTable",
    "LabelSpace",
    "coarse_groups",
    "default_palette",
    "guessed_space",
]

_LONGEST_NAME = 100

IGNORE_LABEL = 255
"""Label id of a pixel that carries no class: left out of losses and scores, drawn black."""

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelSpace:
    """Names, colours and thing classes of the class ids 0 to N-1; N is 2 to 255.

    Attributes:
        name: short key that is stored in bundles.
        classes: N class names; a class id is the index of its name.
        palette: N colours, RGB, 0 to 255; empty = `default_palette(N)`.
        things: ids of countable objects, which the Thing-Class Feature Distance compares (paper section 3.3).

    Raises:
        LabelSpaceError: there are too few or too many classes, lengths differ, names repeat, are empty or cannot be
            printed, or an id or colour is out of range.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...] = ()
    things: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.classes)
        where = f"label space '{shown(self.name)}'"
        for name in (self.name, *self.classes):
            if len(name) > _LONGEST_NAME or not name.isprintable():
                raise LabelSpaceError(
                    f"{where} has the name '{shown(name, _LONGEST_NAME)}', which is too long or has characters that no "
                    f"terminal prints; use up to {_LONGEST_NAME} letters"
                )
        if not 2 <= count <= IGNORE_LABEL:
            raise LabelSpaceError(f"{where} has {count} classes; expected 2 to {IGNORE_LABEL}")
        if not self.palette:
            object.__setattr__(self, "palette", default_palette(count))
        if len(self.palette) != count:
            raise LabelSpaceError(f"{where} has {count} classes but {len(self.palette)} colours; give one for each")
        if len(set(self.classes)) != count:
            twice = [name for name in self.classes if self.classes.count(name) > 1]
            raise LabelSpaceError(f"{where} names the class '{twice[0]}' twice; make the names unique")
        if not all(name.strip() for name in self.classes):
            raise LabelSpaceError(f"{where} has a class without a name; name each")
        if any(len(colour) != 3 or not all(0 <= value <= 255 for value in colour) for colour in self.palette):
            raise LabelSpaceError(f"{where} has a colour that is not three values from 0 to 255")
        if any(not 0 <= thing < count for thing in self.things):
            raise LabelSpaceError(f"{where} lists a thing class outside 0..{count - 1}: {list(self.things)}")

    def __len__(self) -> int:
        return len(self.classes)

    def color_table(self) -> UInt8Array:
        """Return the colours of all 256 ids as a lookup table, uint8 (256, 3) RGB; unknown ids and 255 are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = np.asarray(self.palette, np.uint8)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return the space as plain lists and strings, as a manifest stores it."""
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
                palette=tuple((int(r), int(g), int(b)) for r, g, b in values.get("palette") or ()),
                things=tuple(int(thing) for thing in values.get("things", ())),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise LabelSpaceError(
                f"a label space needs 'name' and 'classes' (names), and its 'palette' holds RGB triples; {error!r} "
                f"went wrong"
            ) from error


def guessed_space(count: int, names: Collection[str] = ()) -> LabelSpace:
    """Return the classes of a network of `count` outputs of which nobody says what they are.

    They are the 19 of Cityscapes for 19 outputs, else the names that were found with it; made-up names where these are
    of another number or repeat.

    Raises:
        LabelSpaceError: there are too few or too many outputs.
    """
    found = tuple(names) if len(set(names)) == len(names) == count else ()
    if count == len(CITYSCAPES19) and found in ((), CITYSCAPES19.classes):
        return CITYSCAPES19
    return LabelSpace("imported", found or tuple(f"class {index}" for index in range(count)))


def default_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return `count` colours (RGB, up to 255 of them) for classes without colours: those of PASCAL VOC without black.

    The bits of a number go to red, green and blue in turn, highest bit of the colour first, so that no two colours are
    nearer than 32 in one channel.
    """
    return tuple((_channel(n, 0), _channel(n, 1), _channel(n, 2)) for n in range(1, count + 1))


def _channel(number: int, channel: int) -> int:
    return sum((number >> 3 * place + channel & 1) << 7 - place for place in range(3))


@dataclass(frozen=True, eq=False)
class IdTable:
    """A table that turns the ids in label files into class ids. Build it with `from_ids`.

    Attributes:
        name: name of the id scheme, for messages.
        table: uint8 (256,), native id -> class id or `IGNORE_LABEL`.
        known: native ids that the scheme documents, also those without a class; any other id deserves a warning.
    """

    name: str
    table: UInt8Array
    known: frozenset[int]

    @classmethod
    def from_ids(cls, name: str, ids: Mapping[int, int], known: Collection[int] = ()) -> IdTable:
        """Build the table from native id -> class id.

        Every other id is ignored; `known` adds documented ids without a class.
        """
        table = np.full(256, IGNORE_LABEL, np.uint8)
        table[list(ids)] = list(ids.values())
        return cls(name, table, frozenset(ids) | frozenset(known) | {IGNORE_LABEL})


@dataclass(frozen=True)
class ClassGroups:
    """A coarser set of classes in which scores are reported.

    Attributes:
        name: short key, as in `hrda evaluate --groups NAME`.
        groups: name of each group, and the ids of the finer classes that belong to it.
        unscored: groups without a score of their own; their pixels still count, since others can be mistaken for them.
    """

    name: str
    groups: tuple[tuple[str, tuple[int, ...]], ...]
    unscored: tuple[str, ...] = ()

    @classmethod
    def of(cls, space: LabelSpace, name: str = "", unscored: tuple[str, ...] = ()) -> ClassGroups:
        """Make every class of a label space a group of its own."""
        return cls(name or space.name, tuple((label, (i,)) for i, label in enumerate(space.classes)), unscored)

    @property
    def names(self) -> tuple[str, ...]:
        """Group names, in the order of the group ids."""
        return tuple(name for name, _ in self.groups)

    @property
    def scored(self) -> tuple[int, ...]:
        """Ids of the groups that have a score, ascending."""
        return tuple(group for group, name in enumerate(self.names) if name not in self.unscored)

    def table(self) -> UInt8Array:
        """Return a lookup table of all 256 fine ids to group ids, uint8 (256,).

        Ids in no group become `IGNORE_LABEL`.
        """
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

# The coarse groups of "IDD Lite" (Indian roads); parking and other flat ground is one with the sidewalk there.
IDD7 = ClassGroups(
    name="idd7",
    groups=(
        ("drivable", (0,)),
        ("other ground", (1, 9)),
        ("living", (11, 12)),
        ("vehicles", (13, 14, 15, 16, 17, 18)),
        ("roadside", (3, 4, 5, 6, 7)),
        ("far", (2, 8)),
        ("sky", (10,)),
    ),
)

# SYNTHIA has no labels of the first three; the 13-class score of the literature also leaves out the next three.
SYNTHIA16 = ClassGroups.of(CITYSCAPES19, "synthia16", ("terrain", "truck", "train"))
SYNTHIA13 = ClassGroups.of(CITYSCAPES19, "synthia13", (*SYNTHIA16.unscored, "wall", "fence", "pole"))

EVALUATION_GROUPS: dict[str, ClassGroups] = {
    groups.name: groups for groups in (ClassGroups.of(CITYSCAPES19), SYNTHIA16, SYNTHIA13, CAMVID11, IDD7)
}
"""Name -> groups of the 19 Cityscapes classes."""


def coarse_groups(space: LabelSpace) -> ClassGroups:
    """Return the groups in which scores of several data sets can be compared; every class where none are known.

    Street data sets differ in how finely they label trucks, buses and riders: the 11 groups hide that.
    """
    return CAMVID11 if space.classes == CITYSCAPES19.classes else ClassGroups.of(space)


# Native ids in the order of the 19 classes.
CITYSCAPES_IDS = IdTable.from_ids(
    "Cityscapes ids",
    dict(zip((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33), range(19), strict=True)),
    known=range(35),  # 34 is the licence plate in GTA5
)

SYNTHIA_IDS = IdTable.from_ids(
    "SYNTHIA ids",
    dict(zip((3, 4, 2, 21, 5, 7, 15, 9, 6, 16, 1, 10, 17, 8, 18, 19, 20, 12, 11), range(19), strict=True)),
    known=range(23),
)

# Several native ids of one class share a tuple.
_MAPILLARY = (
    (13, 24, 41), (2, 15), (17,), (6,), (3,), (45, 47), (48,), (50,), (30,), (29,), (27,), (19,), (20, 21, 22), (55,),
    (61,), (54,), (58,), (57,), (52,),
)  # fmt: skip

MAPILLARY_IDS = IdTable.from_ids(
    "Mapillary Vistas v1.2 ids",
    {native: label for label, natives in enumerate(_MAPILLARY) for native in natives},
    known=range(66),
)
