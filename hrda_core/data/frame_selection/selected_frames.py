"""The result of frame selection: every analysed frame with its reason, and the files that frames are written to."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from hrda_core.data.frames import evenly_spaced
from hrda_core.data.scan.camera_scan import AnalysedFrame, FrameKey
from hrda_core.errors import some_of

__all__ = [
    "ADAPT",
    "HELD_OUT",
    "NEIGHBOURS",
    "REASONS",
    "REJECTED",
    "Neighbour",
    "SelectedFrame",
    "Selection",
    "name_files",
]

REASONS = {
    "kept": "adapted on",
    "held_out": "judged on",
    "gap": "too near in time to a frame that is judged on",
    "undecodable": "does not decode",
    "dark": "nearly all black",
    "blown": "nearly all white",
    "noise": "noise or a plain surface",
    "blurred": "blurred",
    "stride": "too soon after another",
    "duplicate": "nothing moved since another",
    "budget": "others show the same",
}
"""Reason -> what it means."""

ADAPT, HELD_OUT, NEIGHBOURS, REJECTED = "adapt", "held_out", "neighbours", "rejected"
"""Folders that frames are written to."""

_SHOWN_REASONS = ("dark", "blown", "noise", "blurred", "duplicate")
_SHOWN_EACH = 3
_LONGEST_NAME = 120


@dataclass(frozen=True, eq=False)
class SelectedFrame:
    """An analysed frame and what became of it.

    Attributes:
        frame: the frame.
        reason: one of `REASONS`.
        file: relative path of its file; empty = it is not written.
        at_s: its time in the order of recording, seconds after the first image of its camera; no clock's jump counts.
    """

    frame: AnalysedFrame
    reason: str
    file: str
    at_s: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; those of a frame that does not decode are None."""
        frame, quality = self.frame, self.frame.quality
        names = ("luminance", "dark", "blown", "sharpness", "structure", "motion")
        values = {name: None if quality is None else _finite(getattr(quality, name)) for name in names}
        return {
            "topic": frame.topic,
            "number": frame.number,
            "stamp_ns": frame.stamp_ns,
            "at_s": round(self.at_s, 3),
            "recording": str(frame.recording),
            "reason": self.reason,
            "cause": frame.cause,
            "file": self.file,
            **values,
        }


@dataclass(frozen=True)
class Neighbour:
    """The image right after a held-out frame.

    Attributes:
        topic, number, stamp_ns: topic, number and time stamp of the image.
        after: the held-out frame.
        file, after_file: relative paths of both files.
    """

    topic: str
    number: int
    stamp_ns: int
    after: FrameKey
    file: str = ""
    after_file: str = ""

    @property
    def key(self) -> FrameKey:
        """Identifies the image among all others."""
        return self.topic, self.number


@dataclass(frozen=True, eq=False)
class Selection:
    """The chosen frames.

    Attributes:
        rows: all analysed frames, camera by camera in the order of reading.
        neighbours: images after some of the held-out frames.
        cameras: topics.
        span_s: length of the recordings, seconds.
    """

    rows: tuple[SelectedFrame, ...]
    neighbours: tuple[Neighbour, ...]
    cameras: tuple[str, ...]
    span_s: float

    @cached_property
    def counts(self) -> dict[str, int]:
        """Number of frames for every reason."""
        counts = Counter(row.reason for row in self.rows)
        return {reason: counts[reason] for reason in REASONS}

    def of(self, reason: str) -> list[SelectedFrame]:
        """Return the frames with a reason."""
        return [row for row in self.rows if row.reason == reason]

    def table(self) -> str:
        """Return the counts by reason as text, without reasons that no frame has."""
        lines = [f"{len(self.rows)} analysed frames of {self.span_s:.0f} s, {some_of(self.cameras)}"]
        for reason, count in self.counts.items():
            if count:
                lines.append(f"  {reason:<12}{count:>7}  {100 * count / len(self.rows):5.1f} %  {REASONS[reason]}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: `counts`, `frames` (their number), `cameras`, `span_s`, `rows`, `neighbours`."""
        return {
            "counts": self.counts,
            "frames": len(self.rows),
            "cameras": list(self.cameras),
            "span_s": self.span_s,
            "rows": [row.to_dict() for row in self.rows],
            "neighbours": [
                {"stamp_ns": pair.stamp_ns, "topic": pair.topic, "file": pair.file, "after_file": pair.after_file}
                for pair in self.neighbours
            ],
        }

    def to_csv(self) -> str:
        """Return one CSV line for each analysed frame."""
        text = io.StringIO()
        rows = [row.to_dict() for row in self.rows]
        writer = csv.DictWriter(text, rows[0] if rows else (), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def name_files(
    rows: Sequence[SelectedFrame], neighbours: Sequence[Neighbour]
) -> tuple[tuple[SelectedFrame, ...], tuple[Neighbour, ...]]:
    """Give each chosen frame, and a few rejected ones, a file name of its own."""
    taken: set[str] = set()
    shown = _examples(rows)
    named = []
    for row in rows:
        folder = {"kept": ADAPT, "held_out": HELD_OUT}.get(row.reason, REJECTED if row.frame.key in shown else "")
        named.append(replace(row, file=_file(folder, row.frame, taken) if folder else ""))
    files = {row.frame.key: row.file for row in named}
    held_out = {row.frame.key for row in named if row.reason == "held_out"}
    pairs = [
        replace(
            pair,
            file=files[pair.key] if pair.key in held_out else _file(NEIGHBOURS, pair, taken),
            after_file=files[pair.after],
        )
        for pair in neighbours
    ]
    return tuple(named), tuple(pairs)


def _examples(rows: Sequence[SelectedFrame]) -> set[FrameKey]:
    """A few frames of each reason that can be seen in a picture, from all over the recording."""
    keys: set[FrameKey] = set()
    for reason in _SHOWN_REASONS:
        keys.update(evenly_spaced([row.frame.key for row in rows if row.reason == reason], _SHOWN_EACH))
    return keys


def _file(folder: str, frame: AnalysedFrame | Neighbour, taken: set[str]) -> str:
    # A clock that was set back gives a stamp twice, and topics that ROS does not allow may become one name.
    # ASCII, because disks count bytes: a letter of another alphabet is up to four.
    topic = re.sub(r"[^\w.-]", "_", frame.topic.strip("/").replace("/", "-"), flags=re.ASCII)[:_LONGEST_NAME]
    first = f"{folder}/{topic}_{frame.stamp_ns}"
    others = (f"{first}_{number}" for number in itertools.count(frame.number))
    name = next(name for name in itertools.chain([first], others) if name not in taken)
    taken.add(name)
    return f"{name}.{'jpg' if folder == REJECTED else 'png'}"


def _finite(value: float) -> float | None:
    return round(value, 5) if math.isfinite(value) else None
