"""The stage `ask` of an adaptation: a person decides between the given model and the candidate, on held-out frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hrda_core.adaptation.request import Request
from hrda_core.adaptation.stages.frames import Frames
from hrda_core.adaptation.verdict.judgement import GIVEN
from hrda_core.comparison.drive import open_drive
from hrda_core.comparison.session import Session, Settings, open_session, same_network
from hrda_core.inference.bundle import Bundle

__all__ = ["Ask", "Asked", "ask_person"]

Ask = Callable[[Session], None]
"""Puts the questions of a session to a person until nothing is left to ask."""


@dataclass(frozen=True)
class Asked:
    """What a person said of the given model (A) and a candidate (B).

    Attributes:
        candidate: `instant` or `adapted`.
        choice: the candidate or `given`, whichever is more accurate; empty = undecided.
        result: figures, as `Session.result` gives them.
    """

    candidate: str
    choice: str
    result: Mapping[str, Any]

    @property
    def sentence(self) -> str:
        """The result in a sentence."""
        return f"a person was asked: {self.result['sentence']}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without the parts that only a report shows."""
        kept = ("difference", "low", "high", "probability", "questions", "answers", "disagreement", "frames")
        return {"candidate": self.candidate, "choice": self.choice or "undecided"} | {
            name: self.result[name] for name in kept
        }


def ask_person(
    request: Request,
    bundles: Mapping[str, Bundle],
    verdict: str,
    frames: Frames,
    folder: Path,
    ask: Ask,
    count: Callable[[str, int, int], None],
) -> Asked | None:
    """Ask which model is more accurate, or read what was answered before.

    Args:
        verdict: choice of the verdict; where it is `given`, the last candidate is compared with it.
        folder: where questions and answers are kept.

    Returns:
        the answer; None where the candidate is the given network, so that there is nothing to ask.

    Raises:
        HrdaError: see `open_session`, and what `ask` raises.
    """
    candidate = verdict if verdict != GIVEN else list(bundles)[-1]
    given, other = bundles[GIVEN], bundles[candidate]
    if same_network(given, other):
        return None
    names = (f"held-out frames of {', '.join(bag.name for bag in request.bag)}",)
    drive = replace(open_drive([frames.held_out.folder]), names=names)
    settings = Settings(threads=request.threads)
    with open_session(
        folder, given, other, drive, settings, lambda done, total: count("frames compared", done, total)
    ) as session:
        if not session.finished:
            ask(session)
        better = session.comparison().better
        return Asked(candidate, {"a": GIVEN, "b": candidate, "": ""}[better], session.result())
