"""The recordings of a folder, one turn after the other, under the lock of the store."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from hrda_core.errors import RecipeError, one_line, shown
from hrda_core.folder_locks import held_folder
from hrda_core.night.finished import Recording, finished_recordings
from hrda_core.night.journal import Entry, Store, Turn
from hrda_core.night.link import goal_of
from hrda_core.night.turn import Adapt, Reload, begin_turn, finish_turn, is_decided

__all__ = ["Night", "local_now"]


def local_now() -> datetime:
    """Return the time in this machine's zone, which says what a night is."""
    return datetime.now().astimezone()


@dataclass(frozen=True)
class Night:
    """The loop over the finished recordings of a folder.

    Attributes:
        watch: the folder.
        link: link to the bundle that is adapted, and that the node loads its model by.
        folder: place of the store, see `hrda_core.night.journal`.
        adapt, reload: see `hrda_core.night.turn`.
        check: raises an HrdaError where something else than a recording stands in the way.
        settle_s: see `finished_recordings`.
        keep: number of adopted bundles that stay on disk; that of the link and the one before it always do.
        say: takes lines for the user.
        now: the time, with its zone.
        clock: the time, seconds since 1970, with which files are compared.
    """

    watch: Path
    link: Path
    folder: Path
    adapt: Adapt
    reload: Reload | None = None
    check: Callable[[], None] = lambda: None
    settle_s: float = 0.0
    keep: int = 10
    say: Callable[[str], None] = print
    now: Callable[[], datetime] = local_now
    clock: Callable[[], float] = time.time
    _told: set[str] = field(default_factory=set)

    def one_pass(self) -> list[Entry]:
        """Finish what was interrupted, then take every finished recording that is not in the journal.

        Returns:
            the lines that were added to the journal.

        Raises:
            HrdaError: the link, the store or the machine is not as it must be, or another process has the store. What
                was under way is gone on with by the next call.
        """
        try:
            return self._pass()
        except OSError as error:  # a folder that cannot be read, a file where a folder must be, a disk that goes away
            where = f"'{shown(error.filename)}'" if error.filename else f"store '{self.folder}'"
            raise RecipeError(
                f"{where} cannot be used ({error.strerror or one_line(error)}); free space there, and make it "
                f"readable and writable for this user; what is under way goes on then"
            ) from error

    def _pass(self) -> list[Entry]:
        goal_of(self.link)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with held_folder(self.folder, f"running the nights of '{self.folder}'", error=RecipeError):
            store, added = Store.open(self.folder), []
            while (entry := self._next(store)) is not None:
                added.append(entry)
            return added

    def _next(self, store: Store) -> Entry | None:
        """Finish one turn; None where nothing waits."""
        self.check()
        turn = store.turn
        if turn is None:
            waiting = self._waiting(store)
            if waiting is None:
                return None
            turn, path = begin_turn(store, waiting, self.link, self.now()), waiting.path
            self.say(f"'{turn.recording}': adapting '{turn.given}'")
        else:
            found = self._path_of(store, turn)
            if found is None:
                self.say(f"'{turn.recording}' has changed or gone since it was begun, which is forgotten")
                store.end()
                return self._next(store)
            path = found
            self.say(f"'{turn.recording}': going on where it was interrupted")
        entry = finish_turn(store, turn, path, self.link, self.adapt, self.reload, self.now, self.say)
        self._prune(entry)
        return entry

    def _waiting(self, store: Store) -> Recording | None:
        """The oldest finished recording without a line in the journal; those that are left are told once."""
        left: list[str] = []
        recordings = finished_recordings(self.watch, settle_s=self.settle_s, left=left, now=self.clock)
        for sentence in left:
            if sentence not in self._told:
                self._told.add(sentence)
                self.say(sentence)
        return next((each for each in recordings if not store.done(each.name, each.fingerprint)), None)

    def _path_of(self, store: Store, turn: Turn) -> Path | None:
        """The recording of a turn that was interrupted; None where it is another one now, and was not decided on."""
        recordings = finished_recordings(self.watch)
        same = (each.path for each in recordings if (each.name, each.fingerprint) == (turn.recording, turn.fingerprint))
        return next(same, self.watch / turn.recording if is_decided(store, turn) else None)

    def _prune(self, last: Entry) -> None:
        """Remove the oldest adopted bundles. What the link leads to and what it led to before stay."""
        needed = {os.path.realpath(self.link), os.path.realpath(last.before)}
        bundles = sorted(path for path in (self.folder / "bundles").glob("*") if path.is_dir())
        for path in bundles[: -self.keep or None]:
            if os.path.realpath(path) not in needed:
                shutil.rmtree(path, ignore_errors=True)
