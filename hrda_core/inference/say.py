"""Lines that long work reports to its user, each with a level: a command prints them, the node puts them in its log."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

__all__ = ["Level", "Say", "silent"]


class Level(Enum):
    """The importance of a line; the default is `INFO`."""

    INFO = "info"
    """What is being done, and how far it is."""

    WARNING = "warning"
    """Work goes on, but not as it was asked for: the CPU took over from a GPU, for example."""


class Say(Protocol):
    """Takes one line, from any thread. An exception that it raises ends the work."""

    def __call__(self, line: str, level: Level = Level.INFO, /) -> None:
        """Take a line."""
        ...


def silent(line: str, level: Level = Level.INFO, /) -> None:
    """Say nothing."""
