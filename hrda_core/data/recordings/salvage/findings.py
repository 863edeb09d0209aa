"""Results that the readers of damaged recordings share.

Each format has one function `walk(path, findings, wanted, place)` that goes through a file from front to back, steps
over what is damaged and finds the next message behind it: `mcap_walk.py`, `sqlite_walk.py`, `ros1_walk.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["Connection", "Findings", "Found", "Salvage", "normal_type"]


@dataclass(frozen=True)
class Salvage:
    """What became of a damaged recording.

    Attributes:
        recording: file or folder.
        kept: number of images of the chosen topics that were read.
        lost: number of images that were recorded and could not be read; None where nothing tells how many there were.
        reason: what is damaged, one clause.
    """

    recording: Path
    kept: int
    lost: int | None
    reason: str


class Connection(NamedTuple):
    """A stream of messages in a file: the type as ROS 2 spells it, and whether messages are serialised by ROS 1."""

    topic: str
    message_type: str
    is_ros1: bool


class Found(NamedTuple):
    """A message: number of its connection, time in the recording in ns, bytes as stored, and where to find it again."""

    connection: int
    log_ns: int
    raw: bytes
    place: int


@dataclass
class Findings:
    """What a walk learns beside the messages.

    Attributes:
        connections: connections by their number in the file; filled during the walk.
        damage: clauses about what was damaged, in the order of the file.
        written: number of messages of each connection that the recorder counted; None where the file does not tell.
    """

    connections: dict[int, Connection] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    written: Mapping[int, int] | None = None


def normal_type(name: str) -> str:
    """Spell a message type as ROS 2 does: `sensor_msgs/Image`, as in ROS 1, becomes `sensor_msgs/msg/Image`."""
    package, _, rest = name.partition("/")
    return f"{package}/msg/{rest}" if rest and "/" not in rest else name
