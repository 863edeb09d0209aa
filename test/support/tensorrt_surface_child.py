"""Prints what the first of the named modules that imports offers, as JSON. Runs in a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import sys
from types import ModuleType
from typing import Any


def main(names: list[str]) -> None:
    module = first_that_imports(names)
    members = {name: getattr(module, name) for name in dir(module)}
    classes = {name: value for name, value in members.items() if isinstance(value, type)}
    surface = {
        "names": sorted(set(members) - set(classes)),
        "classes": {name: attributes(value, set(classes)) for name, value in classes.items()},
        "arguments": {
            **{name: arguments(value) for name, value in members.items() if callable(value)},
            **{
                f"{name}.{member}": arguments(getattr(value, member, None))
                for name, value in classes.items()
                for member in dir(value)
            },
        },
    }
    print(json.dumps(surface))


def first_that_imports(names: list[str]) -> ModuleType:
    for name in names[:-1]:
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    return importlib.import_module(names[-1])


def attributes(owner: type, classes: set[str]) -> dict[str, str]:
    """Attributes of a class, and of which class they are or what they return."""
    return {name: result_class(getattr(owner, name, None), classes) for name in dir(owner)}


def result_class(member: Any, classes: set[str]) -> str:
    """Read from the signature that pybind11 writes into docstrings: `(self: tensorrt.Builder) -> tensorrt.X`."""
    text = (member.fget.__doc__ if isinstance(member, property) and member.fget else member.__doc__) or ""
    found = re.search(r"\) -> (?:\w+\.)*(\w+)", text)
    return found.group(1) if found and found.group(1) in classes else ""


def arguments(member: Any) -> list[int] | None:
    """Smallest and largest number of arguments by the docstring's first line, `self` not counted; None = not said."""
    if isinstance(member, (type, property)):
        member = member.__init__ if isinstance(member, type) else None
    found = re.match(r"\w+\((.*)\)(?: -> .*)?$", ((getattr(member, "__doc__", None) or "").splitlines() or [""])[0])
    parts = split(found.group(1)) if found else ["*"]
    if any(part.startswith(("*", "...")) for part in parts):
        return None
    parts = [part for part in parts if not re.match(r"self\b", part)]
    return [sum("=" not in part for part in parts), len(parts)]


def split(text: str) -> list[str]:
    """Cut a list of arguments at its outer commas."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


if __name__ == "__main__":
    main(sys.argv[1:])
