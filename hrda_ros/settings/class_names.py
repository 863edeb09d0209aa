"""Class names in parameters: lists with commas. Needs no rclpy."""

from __future__ import annotations

import difflib

from hrda_core.errors import shown, some_of
from hrda_core.labels import LabelSpace

__all__ = ["names_of", "unknown_names"]


def names_of(text: str) -> list[str]:
    """Return the class names of a parameter: a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def unknown_names(names: list[str], space: LabelSpace, parameter: str) -> str:
    """Return one sentence about names that are no classes of the space; empty where all are."""
    unknown = [name for name in names if name not in space.classes]
    if not unknown:
        return ""
    nearest = difflib.get_close_matches(unknown[0], space.classes, n=1)
    advice = f"did you mean '{nearest[0]}'?" if nearest else f"its classes are {some_of(space.classes)}"
    listed = some_of([f"'{shown(name)}'" for name in unknown])
    return f"parameter {parameter} names {listed}, which the model ('{space.name}') does not have; {advice}"
