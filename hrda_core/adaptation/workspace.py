"""The working folder of an adaptation: its options, the stages that are done, and how long they took.

A stage leaves its result as a file that appears whole; a run that was interrupted skips the stages whose files exist. A
folder belongs to one set of options.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hrda_core.errors import RecipeError
from hrda_core.folder_locks import LOCK_NAME
from hrda_core.whole_files import read_json, write_json

__all__ = ["OPTIONS_NAME", "Workspace"]

OPTIONS_NAME = "options.json"
_STAGES_NAME = "stages.json"
_FORMAT = 4
"""Raised when a stage's file changes its meaning: a folder of an earlier release cannot be continued then."""


@dataclass
class Workspace:
    """An open working folder.

    Attributes:
        folder: its path.
        say: takes a line of text.
        stages: seconds by stage, over all calls.
    """

    folder: Path
    say: Callable[[str], None]
    stages: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, options: Mapping[str, Any], say: Callable[[str], None]) -> Workspace:
        """Create the folder, or continue in it. The caller holds its lock.

        Args:
            options: plain values on which the results depend.

        Raises:
            RecipeError: the folder belongs to another adaptation, or holds something else.
            DataError: it cannot be written.
        """
        path = folder / OPTIONS_NAME
        options = {**options, "format of the working folder": _FORMAT}
        if path.exists():
            before = read_json(path)
            changed = sorted(key for key in {*options, *before} if options.get(key) != before.get(key))
            if changed:
                raise RecipeError(
                    f"working folder '{folder}' belongs to an adaptation with other options (differs in "
                    f"{', '.join(changed)}); give another --work, or delete it"
                )
            say(f"going on in '{folder}'")
        elif folder.exists() and any(entry.name != LOCK_NAME for entry in folder.iterdir()):
            raise RecipeError(f"working folder '{folder}' holds something else; give another --work")
        write_json(path, options)
        stages = folder / _STAGES_NAME
        return cls(folder, say, dict(read_json(stages)) if stages.exists() else {})

    def discard_if_empty(self) -> None:
        """Remove the folder if no stage has left anything, because a mistyped path must not block the right one."""
        own = {self.folder / OPTIONS_NAME, self.folder / _STAGES_NAME}
        if set(self.folder.iterdir()) <= own | {self.folder / LOCK_NAME}:
            for path in own:
                path.unlink(missing_ok=True)
            with suppress(OSError):  # whoever holds its lock removes it at the end
                self.folder.rmdir()

    def path(self, name: str) -> Path:
        """Return the path of a file in the folder."""
        return self.folder / name

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[None]:
        """Announce a stage, and count its time."""
        self.say(f"{name}: {text}")
        begin = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = round(self.stages.get(name, 0.0) + time.monotonic() - begin, 1)
            write_json(self.folder / _STAGES_NAME, self.stages)
