"""The errors that end the demo before its results.

DemoError            a prerequisite is missing or a value makes no sense: exit code 2
ChildFailedError     the node, the player or the recorder ended early; carries its own exit code
Interrupted          Ctrl-C or SIGTERM: exit code 130
"""

from __future__ import annotations

from hrda_core.errors import HrdaError

__all__ = ["ChildFailedError", "DemoError", "Interrupted"]


class DemoError(HrdaError):
    """A problem that the user can solve; the text says how."""


class ChildFailedError(Exception):
    """A process of the demo ended or fell silent before its work was done.

    Attributes:
        exit_code: exit code for the demo: 2 if the process blamed the user's input, else 1.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Interrupted(Exception):  # noqa: N818  (an order, not an error)
    """The user asked to stop."""
