"""The bag that the demo plays: its frames, and what they show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from hrda_core.data.frames import evenly_spaced
from hrda_core.data.recordings.recorded_image import COMPRESSED, RecordedImage
from hrda_core.data.recordings.recordings import Recordings
from street_demo.errors import DemoError

__all__ = ["STRETCHES_KEY", "Recording", "Stretch", "open_recording"]

STRETCHES_KEY = "stretches"
"""Key of the bag's custom metadata that lists its stretches as JSON."""


@dataclass(frozen=True)
class Stretch:
    """Consecutive frames of one drive.

    Attributes:
        light: `"day"` or `"dusk"`.
        source: drive that the frames come from.
        first_ns, last_ns: header stamps of the first and last frame, nanoseconds, both included.
    """

    light: str
    source: str
    first_ns: int
    last_ns: int


@dataclass(frozen=True)
class Recording:
    """A bag with one stream of compressed images.

    Attributes:
        path: bag folder.
        topic: topic of the images.
        stamps: header stamps of all frames in the order of the bag, nanoseconds.
        stretches: what the frames show; empty for a bag that does not say.
    """

    path: Path
    topic: str
    stamps: tuple[int, ...]
    stretches: tuple[Stretch, ...]

    def light_at(self, stamp_ns: int) -> str:
        """Return `"day"`, `"dusk"`, or an empty text for an unknown stretch."""
        return next((part.light for part in self.stretches if part.first_ns <= stamp_ns <= part.last_ns), "")

    def evenly_spaced(self, count: int | None) -> tuple[int, ...]:
        """Return the stamps of `count` frames spread over the whole recording; all stamps for None or a large count."""
        return tuple(evenly_spaced(self.stamps, len(self.stamps) if count is None else count))

    def images(self) -> Iterator[RecordedImage]:
        """Yield each frame, not decoded, in the order of the bag."""
        return Recordings.open([self.path], [self.topic]).images()


def open_recording(path: Path) -> Recording:
    """Read through a bag once.

    Raises:
        DataError: the bag is missing, or nothing in it can be read.
        DemoError: it has no compressed images.
    """
    cameras = Recordings.open([path], every=True).cameras
    topics = [camera.topic for camera in cameras if camera.message_type == COMPRESSED]
    if not topics:
        raise DemoError(f"the bag '{path}' has no {COMPRESSED} messages; give a bag of a camera with --bag")
    stamps = tuple(image.stamp_ns for image in Recordings.open([path], topics[:1]).images())
    return Recording(path, topics[0], stamps, _stretches(path / "metadata.yaml"))


def _stretches(metadata: Path) -> tuple[Stretch, ...]:
    """What the bag says of itself; most bags say nothing."""
    try:
        custom = yaml.safe_load(metadata.read_text("utf-8"))["rosbag2_bagfile_information"]["custom_data"]
        return tuple(Stretch(**part) for part in json.loads(custom[STRETCHES_KEY]))
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return ()
