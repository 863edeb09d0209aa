"""Label spaces: class names, colours, thing classes, tables of native ids, and the groups that scores are reported in.

The default space is the 19 training classes of Cityscapes. The id 255 always marks pixels without a label. The module
needs numpy alone, and PyYAML to read a label space file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.errors import LabelSpaceError, one_line, proposal, require

__all__ = [
    "CAMVID11",
    "CITYSCAPES19",
    "CITYSCAPES_IDS",
    "EVALUATION_GROUPS",
    "IGNORE_LABEL",
    "MAPILLARY_IDS",
    "SYNTHIA13",
    "SYNTHIA16",
    "SYNTHIA_IDS",
    "ClassGroups",
    "IdTable",
    "LabelSpace",
    "read_label_space",
]

IGNORE_LABEL = 255
"""Label id of a pixel that carries no class: left out of losses and scores, drawn black."""

UInt8Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelSpace:
    """Names, colours and thing classes of the class ids 0 to N-1.

    Attributes:
        name: short key that is stored in bundles.
        classes: N class names; a class id is the index of its name.
        palette: N colours, RGB, 0 to 255.
        things: ids of countable objects, which the Thing-Class Feature Distance compares (paper section 3.3).

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
                palette=tuple((int(r), int(g), int(b)) for r, g, b in values["palette"]),
                things=tuple(int(thing) for thing in values.get("things", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise LabelSpaceError(
                f"a label space needs 'name', 'classes' (names) and 'palette' (RGB triples); {error!r} went wrong"
            ) from error


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

# SYNTHIA has no labels of the first three; the 13-class score of the literature also leaves out the next three.
SYNTHIA16 = ClassGroups.of(CITYSCAPES19, "synthia16", ("terrain", "truck", "train"))
SYNTHIA13 = ClassGroups.of(CITYSCAPES19, "synthia13", (*SYNTHIA16.unscored, "wall", "fence", "pole"))

EVALUATION_GROUPS: dict[str, ClassGroups] = {
    groups.name: groups for groups in (ClassGroups.of(CITYSCAPES19), SYNTHIA16, SYNTHIA13, CAMVID11)
}
"""Name -> groups of the 19 Cityscapes classes."""

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


def read_label_space(path: Path) -> tuple[LabelSpace, IdTable | None]:
    """Read a label space file: `classes`, `palette`, optional `things` (names) and `ids` (native id -> class name).

    An id with the class name `ignore` is known to carry no class. Ids that are not listed are ignored too, and the
    label audit names them.

    Returns:
        the space, and its table of native ids, which is None if the file has no `ids`: label files then hold class ids.

    Raises:
        LabelSpaceError: the file cannot be read, or a key or value makes no sense.
    """
    yaml = require("yaml", "train")
    where = f"label space file '{path}'"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LabelSpaceError(f"{where} cannot be read ({one_line(error)})") from error
    if not isinstance(values, Mapping):
        raise LabelSpaceError(f"{where} is not a mapping; expected the keys {', '.join(_SPACE_KEYS)}")
    unknown = sorted(str(key) for key in values if key not in _SPACE_KEYS)
    if unknown:
        raise LabelSpaceError(f"{where} has the unknown key '{unknown[0]}'; known: {', '.join(_SPACE_KEYS)}")
    classes = values.get("classes")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise LabelSpaceError(f"{where}: 'classes' must be a list of names")
    numbers = {name: number for number, name in enumerate(classes)}
    things = [_class_number(name, numbers, f"{where}, things") for name in values.get("things") or ()]
    space = LabelSpace.from_dict({"name": path.stem, **values, "things": things})
    ids = values.get("ids")
    return space, None if ids is None else _read_ids(ids, numbers, space.name, where)


_SPACE_KEYS = ("name", "classes", "palette", "things", "ids")
_IGNORE_NAME = "ignore"


def _read_ids(ids: Any, numbers: Mapping[str, int], name: str, where: str) -> IdTable:
    if not isinstance(ids, Mapping) or not ids:
        raise LabelSpaceError(f"{where}: 'ids' must map native ids to class names, such as '7: road'")
    table: dict[int, int] = {}
    for native, label in ids.items():
        if isinstance(native, bool) or not isinstance(native, int) or not 0 <= native <= 255:
            raise LabelSpaceError(f"{where}: the native id '{native}' is not a whole number from 0 to 255")
        table[native] = (
            IGNORE_LABEL if label == _IGNORE_NAME else _class_number(label, numbers, f"{where}, id {native}")
        )
    return IdTable.from_ids(name, table)


def _class_number(name: Any, numbers: Mapping[str, int], where: str) -> int:
    if name in numbers:
        return numbers[name]
    raise LabelSpaceError(f"{where}: '{name}' is not one of the classes; {proposal(str(name), numbers)}")
