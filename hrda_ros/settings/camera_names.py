"""Names of cameras in parameters and launch arguments. This loads nothing but the standard library."""

from __future__ import annotations

import re

__all__ = ["camera_names"]


def camera_names(text: str) -> list[str]:
    """Names of cameras, which become namespaces, from a list with commas.

    Raises:
        ValueError: a name is no ROS name, stands there twice, or there is none.
    """
    names = [name.strip().strip("/") for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError("cameras is empty; give their names with commas between, as in cameras:=front,rear")
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*", name):
            raise ValueError(f"'{name}' cannot be a namespace: letters, digits, _ and / only, and no digit first")
        if names.count(name) > 1:
            raise ValueError(f"camera '{name}' stands in cameras twice")
    return names
