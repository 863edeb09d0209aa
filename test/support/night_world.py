"""A made-up world for the loop of `hrda night`: recordings of a few bytes, bundles of two graphs, no training.

What a recording holds says what its adaptation is to end with: `given`, `instant`, `adapted`, or `broken`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hrda_core.night.night import Night
from hrda_core.night.turn import BrokenError, Decision

NOW = datetime(2026, 11, 30, 2, 0, tzinfo=timezone.utc)
METADATA = """rosbag2_bagfile_information:
  relative_file_paths: [{file}]
  topics_with_message_count:
    - topic_metadata: {{name: /camera, type: sensor_msgs/msg/Image}}
      message_count: 3
"""


class World:
    """A watched folder, a link to a bundle, and what was asked of adaptation and node.

    Args:
        folder: an empty folder.
        bundle: a bundle that is copied.
    """

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.watch, self.link, self.store = folder / "drives", folder / "current", folder / "current.nights"
        self.first = folder / "first"
        self._bundle = bundle
        self.adapted: list[str] = []
        self.said: list[str] = []
        self.watch.mkdir(parents=True)
        shutil.copytree(bundle, self.first)
        self.link.symlink_to("first")

    def record(self, name: str, ends: str, at: int = 1_000) -> Path:
        """Put a finished recording there."""
        path = self.watch / name
        path.mkdir()
        (path / f"{name}_0.mcap").write_text(ends)
        (path / "metadata.yaml").write_text(METADATA.format(file=f"{name}_0.mcap"))
        for file in path.iterdir():
            os.utime(file, (at, at))
        return path

    def adapt(self, recording: Path, given: Path, out: Path, work: Path) -> Decision:
        """As `hrda adapt`: the new bundle appears whole, and a second call does not mind that it is there."""
        self.adapted.append(recording.name)
        ends = (recording / f"{recording.name}_0.mcap").read_text()
        if ends == "broken":
            raise BrokenError(f"recording '{recording.name}' cannot be read; record again")
        (work / "frames").mkdir(exist_ok=True)
        if not out.exists():
            part = work / "part"
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(self._bundle, part)
            (part / "report.html").write_text(f"{recording.name} from {given.name}")
            out.parent.mkdir(exist_ok=True)
            part.rename(out)
        return Decision(ends, f"{ends} it is", (f"{ends} it is",))

    def night(self, **changes: Any) -> Night:
        """The loop in this world."""
        values: dict[str, Any] = {
            "watch": self.watch,
            "link": self.link,
            "folder": self.store,
            "adapt": self.adapt,
            "say": self.said.append,
            "now": lambda: NOW,
        }
        return Night(**values | changes)

    @property
    def goal(self) -> str:
        """Name of the bundle that the link leads to."""
        return Path(os.path.realpath(self.link)).name

    @property
    def files(self) -> dict[str, str]:
        """All that the store keeps, but the bundles' own files."""
        found = {}
        for path in sorted(self.store.rglob("*")):
            name = str(path.relative_to(self.store))
            if not name.startswith("bundles/") and path.is_file():
                found[name] = path.read_text().replace(str(self.store.parent), "")
            elif path.parent.name == "bundles":
                found[name] = "bundle"
        return found


class InterruptionError(BaseException):
    """An end at any line, as by a signal; a BaseException, so that nothing takes it for a mistake."""


class Interruptions:
    """Interrupts at the n-th of the calls that it wraps, before or after it is carried out.

    Args:
        at: number of the call, from 1; 0 = never.
        after: whether the call is carried out before.
    """

    def __init__(self, at: int, after: bool) -> None:
        self.at, self.after, self.seen = at, after, 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, which may be interrupted."""

        def call(*arguments: Any, **options: Any) -> Any:
            self.seen += 1
            now = self.seen == self.at
            if now and not self.after:
                raise InterruptionError
            result = function(*arguments, **options)
            if now:
                raise InterruptionError
            return result

        return call
