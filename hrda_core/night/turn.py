"""The turn of one recording: adapt, judge, adopt or keep, reload, note. It goes on after an interruption at any point.

Each step leaves a file or a link that is there whole or not at all, and can be done a second time with the same result:

    begin     turn.json says which recording, from which bundle, to which
    adapt     the adaptation goes on where it was; work/decision.json says how it ended
    adopt     the new bundle is opened, the link moves to it, the node reloads; if the node refuses, the link moves back
    note      the journal gets its line, the pages are written
    end       the working folder and turn.json go
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeAlias

from hrda_core.errors import BundleError, DataError, HrdaError
from hrda_core.inference.bundle import Bundle
from hrda_core.night.finished import Recording
from hrda_core.night.journal import Entry, Store, Turn
from hrda_core.night.link import goal_of, move_link
from hrda_core.plain_files import read_file
from hrda_core.report.night_page import write_night_pages
from hrda_core.whole_files import read_json, remove_unfinished, write_json, write_whole

__all__ = ["Adapt", "BrokenError", "Decision", "Reload", "Reloaded", "begin_turn", "finish_turn", "is_decided"]

_DECISION, _REPORT = "decision.json", "report.html"
_CHOICES = ("", "given", "instant", "adapted")


class BrokenError(HrdaError):
    """A recording cannot be adapted on; the text says why. It is not tried again until it changes."""


@dataclass(frozen=True)
class Decision:
    """How an adaptation ended.

    Attributes:
        choice: `given`, `instant` or `adapted`; empty for a recording that cannot be adapted on.
        sentence: the reason, in one sentence.
        reasons: of the verdict.
    """

    choice: str
    sentence: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reloaded:
    """What a node answered.

    Attributes:
        refused: whether it was asked and keeps its old model; a node that is not there has refused nothing.
        message: one line.
    """

    refused: bool
    message: str


Adapt: TypeAlias = "Callable[[Path, Path, Path, Path], Decision]"
"""Recording, given bundle, place of the new bundle, working folder -> decision. It can be called again after it was
interrupted, and leaves the new bundle whole or not at all. Raises `BrokenError`."""

Reload: TypeAlias = "Callable[[], Reloaded]"
"""Lets the node load what the link leads to."""


def begin_turn(store: Store, recording: Recording, link: Path, now: datetime) -> Turn:
    """Note which recording is worked on, and clear what an earlier turn has left."""
    if store.work.exists():
        shutil.rmtree(store.work)
    number = max((entry.number for entry in store.entries), default=0) + 1
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in Path(recording.name).name)[:60]
    turn = Turn(
        number,
        recording.name,
        recording.fingerprint,
        str(goal_of(link)),
        str(store.folder / "bundles" / f"{number:04d}_{name}"),
        _utc(now),
        (now - timedelta(hours=12)).date().isoformat(),  # a night goes from noon to noon
    )
    store.begin(turn)
    return turn


def finish_turn(
    store: Store,
    turn: Turn,
    path: Path,
    link: Path,
    adapt: Adapt,
    reload: Reload | None,
    now: Callable[[], datetime],
    say: Callable[[str], None],
) -> Entry:
    """Carry out a turn from where it is to its end.

    Args:
        path: the recording.
        link: the link that the node loads its model by.
        adapt, reload: see there; `reload` is None where no node is to be told.
        now: the time, with its zone.
        say: takes lines for the user.

    Raises:
        HrdaError: something else than the recording is wrong; the turn stays under way, and is gone on with later.
    """
    noted = next((entry for entry in store.entries if entry.number == turn.number), None)
    if noted is None:
        noted = _carry_out(store, turn, _decide(store, turn, path, adapt), link, reload, now)
        store.note(noted)
        say(f"'{noted.recording}': {noted.outcome}: {noted.sentence}")
    write_night_pages(store.folder, [each.to_dict() for each in store.entries], noted.night, str(link))
    if noted.outcome != "adopted":
        shutil.rmtree(turn.bundle, ignore_errors=True)
    remove_unfinished(Path(turn.bundle))
    shutil.rmtree(store.work, ignore_errors=True)
    store.end()
    return noted


def is_decided(store: Store, turn: Turn) -> bool:
    """Return whether the adaptation of a turn has ended, so that the recording is not needed any more."""
    return (store.work / _DECISION).exists() or any(entry.number == turn.number for entry in store.entries)


def _decide(store: Store, turn: Turn, path: Path, adapt: Adapt) -> Decision:
    """The decision that is there already, or that of an adaptation."""
    kept = store.work / _DECISION
    if kept.exists():
        return _read_decision(kept)
    store.work.mkdir(parents=True, exist_ok=True)
    try:
        decision = adapt(path, Path(turn.given), Path(turn.bundle), store.work)
    except BrokenError as error:
        decision = Decision("", str(error))
    write_json(kept, {"choice": decision.choice, "sentence": decision.sentence, "reasons": list(decision.reasons)})
    return decision


def _read_decision(path: Path) -> Decision:
    values = read_json(path)
    with suppress(TypeError, KeyError):
        choice, sentence, reasons = values["choice"], values["sentence"], tuple(values["reasons"])
        if choice in _CHOICES and all(isinstance(text, str) for text in (sentence, *reasons)):
            return Decision(choice, sentence, reasons)
    raise DataError(f"'{path}' holds no decision; remove it: the recording is then adapted on again")


def _carry_out(
    store: Store, turn: Turn, decision: Decision, link: Path, reload: Reload | None, now: Callable[[], datetime]
) -> Entry:
    """Let link and node follow the decision; the line of the journal."""
    outcome, sentence, told = "broken", decision.sentence, ""
    report = _keep_report(store, turn) if decision.choice else ""
    if decision.choice == "given":
        outcome = "kept"
    elif decision.choice:
        outcome, sentence, told = _adopt(turn, decision, link, reload)
    return Entry(
        turn.number,
        turn.night,
        turn.recording,
        turn.fingerprint,
        turn.began,
        _utc(now()),
        outcome,
        sentence,
        before=turn.given,
        after=os.path.realpath(link),
        choice=decision.choice,
        reasons=decision.reasons,
        report=report,
        reload=told,
    )


def _adopt(turn: Turn, decision: Decision, link: Path, reload: Reload | None) -> tuple[str, str, str]:
    """Move the link and let the node reload: (outcome, sentence, what the node said)."""
    bundle = Path(turn.bundle)
    try:
        Bundle.open(bundle)
    except BundleError as error:
        return "broken", f"the new bundle does not open: {error}", ""
    if os.path.realpath(link) not in (os.path.realpath(turn.given), os.path.realpath(bundle)):
        return "kept", f"the link was moved to '{os.path.realpath(link)}' meanwhile, and stays there", ""
    move_link(link, bundle)
    if reload is None:
        return "adopted", decision.sentence, ""
    answer = reload()
    if not answer.refused:
        return "adopted", decision.sentence, answer.message
    move_link(link, Path(turn.given))
    return "refused", f"the node does not take the new model, and the link leads back: {answer.message}", answer.message


def _keep_report(store: Store, turn: Turn) -> str:
    """Copy the page of the adaptation out of the bundle; its path below the store, empty where there is none."""
    page = Path(turn.bundle) / _REPORT
    if not page.is_file():
        return ""
    name = f"reports/{Path(turn.bundle).name}.html"
    write_whole(store.folder / name, read_file(page))
    return name


def _utc(time: datetime) -> str:
    return time.astimezone(timezone.utc).isoformat(timespec="seconds")
