"""What a store of nights keeps: the journal, one JSON object a line and a recording, and the turn that is under way.

STORE/journal.jsonl     the recordings that are done, in their order
STORE/turn.json         the recording that is worked on; gone between two turns
STORE/work/             the working folder of that turn
STORE/bundles/          the bundles that were adopted, newest last
STORE/reports/          the report of each adaptation
STORE/nights/           a page for each night; STORE/index.html lists them
"""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

from hrda_core.errors import DataError, TextError, shown
from hrda_core.plain_files import read_file
from hrda_core.untrusted_text import parse_json
from hrda_core.whole_files import read_json, write_whole

__all__ = ["OUTCOMES", "Entry", "Store", "Turn"]

OUTCOMES = ("adopted", "kept", "refused", "broken")
"""adopted: the link leads to the new bundle. kept: it leads to the given one. refused: the node did not take the new
bundle, and the link leads back. broken: the recording could not be adapted on."""


@dataclass(frozen=True)
class Turn:
    """A recording that is worked on.

    Attributes:
        number: its number in the journal, from 1.
        recording: its name below the watched folder.
        fingerprint: see `Recording`.
        given: the bundle that it started from.
        bundle: place of the new one.
        began: UTC, as ISO 8601.
        night: date of the evening of that night.
    """

    number: int
    recording: str
    fingerprint: str
    given: str
    bundle: str
    began: str
    night: str


@dataclass(frozen=True)
class Entry:
    """A line of the journal: what became of one recording.

    Attributes:
        number, recording, fingerprint, began, night: see `Turn`.
        ended: UTC, as ISO 8601.
        outcome: one of `OUTCOMES`.
        sentence: why, in one sentence.
        choice: what the verdict chose: given, instant or adapted; empty for a broken recording.
        reasons: of the verdict.
        before, after: bundles that the link led to at the begin and at the end.
        report: page of the adaptation, relative to the store; empty where there is none.
        reload: what the node said; empty where none was asked.
    """

    number: int
    night: str
    recording: str
    fingerprint: str
    began: str
    ended: str
    outcome: str
    sentence: str
    before: str
    after: str
    choice: str = ""
    reasons: tuple[str, ...] = ()
    report: str = ""
    reload: str = ""

    @classmethod
    def from_dict(cls, values: Any) -> Entry:
        """Read a line of the journal.

        Raises:
            ValueError: it is something else.
        """
        checked = _checked(values, cls)
        if checked["outcome"] not in OUTCOMES:
            raise ValueError(f"outcome is one of {', '.join(OUTCOMES)}")
        return cls(**{**checked, "reasons": tuple(checked["reasons"])})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "reasons": list(self.reasons)}


@dataclass
class Store:
    """The folder that the nights of one link leave; see above."""

    folder: Path
    entries: list[Entry] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Read the journal; the folder need not exist.

        Raises:
            DataError: the journal is damaged.
        """
        path, entries = folder / "journal.jsonl", []
        if path.exists() and not path.is_file():
            raise DataError(f"journal '{path}' is not a file; move it away, or give another store")
        lines = read_file(path).decode(errors="replace").splitlines() if path.exists() else []
        try:
            for line in lines:
                entries.append(Entry.from_dict(parse_json(line)))  # noqa: PERF401  (their number is told)
        except (TextError, ValueError) as error:
            raise DataError(
                f"line {len(entries) + 1} of journal '{path}' cannot be read ({error}); mend or remove that line: what "
                f"it stood for is then done again"
            ) from error
        return cls(folder, entries)

    @property
    def work(self) -> Path:
        """Working folder of the turn."""
        return self.folder / "work"

    @property
    def turn(self) -> Turn | None:
        """The turn that is under way, also one that was interrupted.

        Raises:
            DataError: what was noted of it is damaged, or is of another store.
        """
        path = self.folder / "turn.json"
        if not path.exists():
            return None
        advice = "remove it: the recording is then begun again"
        try:
            turn = Turn(**_checked(read_json(path), Turn))
        except ValueError as error:
            raise DataError(f"'{path}' cannot be read ({error}); {advice}") from error
        if Path(turn.bundle).parent != self.folder / "bundles":  # what is there may be removed
            raise DataError(f"'{path}' has its bundle in '{shown(turn.bundle)}', which is not this store's; {advice}")
        return turn

    def begin(self, turn: Turn) -> None:
        """Note that a turn begins."""
        write_whole(self.folder / "turn.json", json.dumps(asdict(turn), indent=1) + "\n", durable=True)

    def note(self, entry: Entry) -> None:
        """Add a line to the journal; at every moment it is whole, without the line or with it."""
        entries = [*self.entries, entry]
        text = "".join(json.dumps(each.to_dict()) + "\n" for each in entries)
        write_whole(self.folder / "journal.jsonl", text, durable=True)
        self.entries = entries

    def end(self) -> None:
        """Note that no turn is under way."""
        (self.folder / "turn.json").unlink(missing_ok=True)

    def done(self, recording: str, fingerprint: str) -> bool:
        """Return whether a recording, as it is now, has its line in the journal."""
        return any((entry.recording, entry.fingerprint) == (recording, fingerprint) for entry in self.entries)


def _checked(values: Any, kind: type[Turn] | type[Entry]) -> dict[str, Any]:
    """Return the values of a turn or a line as they were read, if they have the types that they were written with.

    Raises:
        ValueError: they have not.
    """
    if not isinstance(values, dict):
        raise ValueError("it is no object with keys")
    known = {each.name: each for each in fields(kind)}
    if foreign := values.keys() - known.keys():
        raise ValueError(f"it has the key '{shown(min(foreign))}'")
    for name, each in known.items():
        expected = {"int": int, "str": str}.get(str(each.type), list)
        if name in values and type(values[name]) is not expected:
            raise ValueError(f"{name} is {shown(values[name], 40)}")
        if name not in values and (each.default is MISSING or expected is list):
            raise ValueError(f"{name} is missing")
    if not 1 <= values["number"] < 1 << 31:
        raise ValueError(f"number is {values['number']}")
    date.fromisoformat(values["night"])  # it names a page
    return values
