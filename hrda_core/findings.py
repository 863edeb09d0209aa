"""The result of one check of this machine: a line with its state and, where it is not well, one sentence of advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hrda_core.errors import HrdaError, shown

__all__ = ["STATES", "Finding", "fail", "of_error", "ok", "warn"]

STATES = ("ok", "warn", "fail")
"""`warn`: something works less well or not at all, and the machine may not need it. `fail`: something is broken."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        subject: what was looked at, one or two words.
        state: one of `STATES`.
        text: what was found, on one line.
        advice: one sentence of what to do; empty if and only if the state is `ok`.
    """

    subject: str
    state: str
    text: str
    advice: str = ""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ValueError(f"state '{self.state}' is none of {', '.join(STATES)}")
        if (self.state == "ok") == bool(self.advice):
            raise ValueError(f"finding on '{self.subject}': advice belongs to what is not ok, and only to that")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Finding:
        """Read what `to_dict` gave.

        Raises:
            KeyError, ValueError: it is something else.
        """
        return cls(*(str(values[name]) for name in ("subject", "state", "text", "advice")))

    def to_dict(self) -> dict[str, str]:
        """Return plain values."""
        return asdict(self)


def ok(subject: str, text: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(subject, "ok", shown(text, 400))


def warn(subject: str, text: str, advice: str) -> Finding:
    """Return a finding on something that works less well, or that only some machines need."""
    return Finding(subject, "warn", shown(text, 400), advice)


def fail(subject: str, text: str, advice: str) -> Finding:
    """Return a finding on something that is broken."""
    return Finding(subject, "fail", shown(text, 400), advice)


def of_error(subject: str, state: str, error: HrdaError | str) -> Finding:
    """Return the finding that an error's sentence makes: what stands behind its last semicolon is what to do."""
    text, _, advice = str(error).rpartition("; ")
    return Finding(subject, state, *((text, advice) if text else (advice, "see the sentence, and mend what it names")))
