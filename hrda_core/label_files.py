"""Reads label spaces, tables of native ids and groups of classes from YAML files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hrda_core.errors import LabelSpaceError, TextError, one_line, proposal
from hrda_core.labels import CITYSCAPES19, EVALUATION_GROUPS, IGNORE_LABEL, ClassGroups, IdTable, LabelSpace
from hrda_core.untrusted_text import read_yaml_file

__all__ = ["defines_classes", "find_groups", "label_space_values", "read_label_space"]

_SPACE_KEYS = ("name", "classes", "palette", "things", "ids")
_GROUP_KEYS = ("name", "groups", "unscored")
_IGNORE_NAME = "ignore"


def read_label_space(
    file: Path | Mapping[str, Any], given: LabelSpace = CITYSCAPES19, stored: LabelSpace | None = None
) -> tuple[LabelSpace, IdTable | None]:
    """Read a label space file, or its keys and values where they stand in another file.

    Its keys are `classes` (names), `palette` (RGB; default: made), `things` (names; default: none), `ids` and `name`.
    `ids` is native id -> class name, or class name -> native ids. The name `ignore` stands for ids that are known to
    carry no class. Ids that are not listed are ignored too, and the label audit names them. A file without `classes`
    defines none: its `ids` lead to the classes of `given`.

    Args:
        given: classes of the network, for files that define none.
        stored: classes that the label files are known to hold, as those of a source pack: the native ids in `ids` may
            then be names of these.

    Returns:
        the space, and its table of native ids, which is None if the file has no `ids`: label files then hold class ids.

    Raises:
        LabelSpaceError: the file cannot be read, or a key or value makes no sense.
    """
    values, where = _keys(file)
    space = _space(values, where) if "classes" in values else _without_classes(values, where, given)
    ids = values.get("ids")
    return space, None if ids is None else IdTable.from_ids(space.name, _ids(ids, space, where, stored))


def defines_classes(file: Path | Mapping[str, Any]) -> bool:
    """Return whether a label space file defines classes of its own; if not, it only translates ids.

    Raises:
        LabelSpaceError: the file cannot be read, or has an unknown key.
    """
    return "classes" in _keys(file)[0]


def label_space_values(space: LabelSpace, ids: IdTable | None = None) -> dict[str, Any]:
    """Return the keys and values from which `read_label_space` makes the space and table again; JSON can hold them."""
    values = space.to_dict() | {"things": [space.classes[thing] for thing in space.things]}
    if ids is not None:
        names = {**dict(enumerate(space.classes)), IGNORE_LABEL: _IGNORE_NAME}
        natives: dict[str, list[int]] = {name: [] for name in names.values()}
        for native in sorted(ids.known):
            natives[names[int(ids.table[native])]].append(native)
        values["ids"] = {name: listed for name, listed in natives.items() if listed}
    return values


def find_groups(name: str, space: LabelSpace) -> ClassGroups:
    """Return the groups in which scores are reported.

    Args:
        name: empty = every class is a group; a key of `EVALUATION_GROUPS`; or a YAML file with the keys `groups` (group
            name -> names of its classes), `unscored` (groups without a score of their own) and `name`. Classes in no
            group are ignored.
        space: the classes that are grouped.

    Raises:
        LabelSpaceError: the name is unknown or its groups are of other classes, or the file makes no sense.
    """
    if not name or name == space.name:
        return ClassGroups.of(space)
    if name in EVALUATION_GROUPS:
        if space.classes != CITYSCAPES19.classes:
            raise LabelSpaceError(
                f"groups '{name}' are groups of the classes of {CITYSCAPES19.name}, but the model's are those of "
                f"'{space.name}'; leave groups out, or give a file of your own groups"
            )
        return EVALUATION_GROUPS[name]
    if not Path(name).is_file():
        raise LabelSpaceError(
            f"groups '{name}' are not known and no such file is there; choose one of {', '.join(EVALUATION_GROUPS)}, "
            f"or give a YAML file of your own groups"
        )
    return _groups(_read(Path(name), f"groups file '{name}'", _GROUP_KEYS), f"groups file '{name}'", Path(name), space)


def _keys(file: Path | Mapping[str, Any]) -> tuple[dict[Any, Any], str]:
    """The keys and values of a label space, and where they are, for messages."""
    if isinstance(file, Path):
        where = f"label space file '{file}'"
        return {"name": file.stem} | _read(file, where, _SPACE_KEYS), where
    _check_keys(file, "label_space", _SPACE_KEYS)
    return {"name": "own"} | dict(file), "label_space"


def _read(path: Path, where: str, known: tuple[str, ...]) -> dict[Any, Any]:
    try:
        values = read_yaml_file(path)
    except (OSError, TextError) as error:
        raise LabelSpaceError(f"{where} cannot be read ({one_line(error)})") from error
    if not isinstance(values, dict):
        raise LabelSpaceError(f"{where} is not a mapping; expected the keys {', '.join(known)}")
    _check_keys(values, where, known)
    return values


def _check_keys(values: Mapping[Any, Any], where: str, known: tuple[str, ...]) -> None:
    unknown = sorted(str(key) for key in values if key not in known)
    if unknown:
        raise LabelSpaceError(f"{where} has the unknown key '{unknown[0]}'; known: {', '.join(known)}")


def _space(values: Mapping[Any, Any], where: str) -> LabelSpace:
    classes = values["classes"]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise LabelSpaceError(f"{where}: 'classes' must be a list of names")
    if _IGNORE_NAME in classes:
        raise LabelSpaceError(
            f"{where}: a class cannot be called '{_IGNORE_NAME}', which stands for ids without a class; rename it, or "
            f"leave it out of 'classes'"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    things = values.get("things") or ()
    if not isinstance(things, (list, tuple)):
        raise LabelSpaceError(f"{where}: 'things' must be a list of class names")
    countable = [_class_number(name, numbers, f"{where}, things") for name in things]
    try:
        return LabelSpace.from_dict({**values, "things": countable})
    except LabelSpaceError as error:
        raise LabelSpaceError(f"{where}: {error}") from error


def _without_classes(values: Mapping[Any, Any], where: str, given: LabelSpace) -> LabelSpace:
    lonely = [key for key in ("palette", "things") if values.get(key)]
    if lonely or "ids" not in values:
        what = f"'{lonely[0]}' but no 'classes'" if lonely else "neither 'classes' nor 'ids'"
        raise LabelSpaceError(
            f"{where} has {what}; give the names of its classes, or 'ids' alone to translate ids to '{given.name}'"
        )
    return given


def _ids(ids: Any, space: LabelSpace, where: str, stored: LabelSpace | None) -> dict[int, int]:
    """Native id -> class id, from either of the two ways to write them."""
    if not isinstance(ids, Mapping) or not ids:
        raise LabelSpaceError(f"{where}: 'ids' must map native ids to class names, such as '7: road'")
    numbers = {**{name: number for number, name in enumerate(space.classes)}, _IGNORE_NAME: IGNORE_LABEL}
    table: dict[int, int] = {}
    natives = {} if stored is None else {name: number for number, name in enumerate(stored.classes)}
    for native, name in _pairs(ids):
        if stored is not None and isinstance(native, str):
            native = _class_number(native, natives, f"{where}, classes of '{stored.name}'")
        if isinstance(native, bool) or not isinstance(native, int) or not 0 <= native <= 255:
            raise LabelSpaceError(f"{where}: the native id '{native}' is not a whole number from 0 to 255")
        number = _class_number(name, numbers, f"{where}, id {native}")
        if table.setdefault(native, number) != number:
            both = " and ".join(f"'{key}'" for key, value in numbers.items() if value in (table[native], number))
            raise LabelSpaceError(f"{where}: the native id {native} belongs to {both}; an id has one class")
    return table


def _pairs(ids: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    for key, value in ids.items():
        if isinstance(value, list):
            yield from ((native, key) for native in value)
        else:
            yield key, value


def _class_number(name: Any, numbers: Mapping[str, int], where: str) -> int:
    if isinstance(name, str) and name in numbers:
        return numbers[name]
    raise LabelSpaceError(f"{where}: '{name}' is not one of the classes; {proposal(str(name), numbers)}")


def _groups(values: Mapping[Any, Any], where: str, path: Path, space: LabelSpace) -> ClassGroups:
    listed, numbers = values.get("groups"), {name: number for number, name in enumerate(space.classes)}
    if not isinstance(listed, Mapping) or not listed or not all(isinstance(one, list) for one in listed.values()):
        raise LabelSpaceError(f"{where}: 'groups' must map names of groups to lists of class names")
    members = {
        str(group): tuple(_class_number(name, numbers, f"{where}, group '{group}'") for name in names)
        for group, names in listed.items()
    }
    taken: dict[int, str] = {}
    for group, classes in members.items():
        for number in classes:
            if taken.setdefault(number, group) != group:
                raise LabelSpaceError(
                    f"{where}: class '{space.classes[number]}' is in the groups '{taken[number]}' and '{group}'; put "
                    f"it in one"
                )
    listed_unscored = values.get("unscored") or []
    if not isinstance(listed_unscored, list):
        raise LabelSpaceError(f"{where}: 'unscored' must be a list of names of groups")
    unscored = tuple(str(name) for name in listed_unscored)
    if absent := [name for name in unscored if name not in members]:
        raise LabelSpaceError(f"{where}, unscored: '{absent[0]}' is no group; {proposal(str(absent[0]), members)}")
    return ClassGroups(str(values.get("name", path.stem)), tuple(members.items()), unscored)
