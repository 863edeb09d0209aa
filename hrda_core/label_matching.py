"""Brings labels of one label space into another: classes are matched by their names."""

from __future__ import annotations

from collections.abc import Sequence

from hrda_core.labels import IGNORE_LABEL, IdTable, LabelSpace

__all__ = ["ids_by_name", "only_in", "same_names", "some_names", "space_difference"]

_NAMED = 4


def only_in(one: LabelSpace, other: LabelSpace) -> list[str]:
    """Return the classes of a label space that another one lacks."""
    return [name for name in one.classes if name not in other.classes]


def same_names(found: LabelSpace, wanted: LabelSpace) -> bool:
    """Return whether two label spaces have the same classes, in whatever order."""
    return set(found.classes) == set(wanted.classes)


def space_difference(found: LabelSpace, wanted: LabelSpace) -> str:
    """Return which classes `found` has beyond `wanted`, and which it lacks, as the end of a sentence; empty = none."""
    parts = {"has": only_in(found, wanted), "lacks": only_in(wanted, found)}
    return " and ".join(f"{verb} {some_names(names)}" for verb, names in parts.items() if names)


def some_names(names: Sequence[str]) -> str:
    """Return the first few names in quotes, and the number of the others."""
    named = ", ".join(f"'{name}'" for name in names[:_NAMED])
    return named + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def ids_by_name(found: LabelSpace, ids: IdTable | None, wanted: LabelSpace) -> IdTable | None:
    """Return how stored ids become class ids of `wanted`: by the names of their classes.

    Args:
        found: classes of the labels.
        ids: stored ids -> class ids of `found`; None = they are the same.
        wanted: classes of the model. Those of `found` that it lacks are ignored.

    Returns:
        the table; `ids` as given where both have the same classes in the same order.
    """
    if found.classes == wanted.classes:
        return ids
    numbers = {name: number for number, name in enumerate(wanted.classes)}
    own = [numbers.get(name, IGNORE_LABEL) for name in found.classes]
    natives = range(len(found)) if ids is None else [native for native in range(256) if ids.table[native] < len(found)]
    table = {native: own[native if ids is None else int(ids.table[native])] for native in natives}
    return IdTable.from_ids(found.name, table, known=() if ids is None else ids.known)
