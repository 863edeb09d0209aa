"""Reads the camera images of recordings lazily, whatever state the recordings are in. Needs the package rosbags.

It reads rosbag2 (mcap, sqlite3, each plain or compressed by file, chunk or message) and ROS 1, in folders, files, or
several at once. Of a recording that is cut off, overwritten or without its metadata the readable images are read, and
`salvage` tells how many. One message is held at a time, so memory does not grow with the length of a recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hrda_core.data.recordings.recorded_image import IMAGE_TYPES, RecordedImage, header_stamp
from hrda_core.data.recordings.recording_files import RecordingFiles, find_recordings
from hrda_core.data.recordings.recording_storage import (
    StorageFile,
    StoredMessage,
    TopicInfo,
    list_storage,
    read_storage,
)
from hrda_core.data.recordings.salvage.findings import Salvage
from hrda_core.errors import DataError

__all__ = ["Camera", "RecordedImage", "Recordings", "Salvage", "TopicInfo"]


@dataclass(frozen=True)
class Camera:
    """A topic whose images are read.

    Attributes:
        topic: its name.
        message_type: `sensor_msgs/msg/Image` or `sensor_msgs/msg/CompressedImage`.
        count: number of images over all recordings, of a damaged one those that can be read; None where not known.
    """

    topic: str
    message_type: str
    count: int | None


@dataclass(frozen=True)
class _Recording:
    """A recording with its files, listed and in order of their start."""

    source: RecordingFiles
    files: tuple[StorageFile, ...]

    @property
    def start_ns(self) -> int:
        return min((file.start_ns for file in self.files if file.topics), default=2**63 - 1)


class Recordings:
    """Images of some topics of one or more recordings, made by `open`. No file stays open between two passes.

    Attributes:
        cameras: the topics whose images are read.
        topics: everything that the recordings hold.
    """

    def __init__(
        self, recordings: Sequence[_Recording], cameras: Sequence[Camera], topics: Sequence[TopicInfo]
    ) -> None:
        self._recordings = tuple(sorted(recordings, key=lambda recording: recording.start_ns))
        self._salvage: tuple[Salvage, ...] = ()
        self.cameras, self.topics = tuple(cameras), tuple(topics)

    @classmethod
    def open(cls, paths: Sequence[Path], topics: Sequence[str] = (), *, several: bool = False) -> Recordings:
        """List recordings and choose topics. Whole files are listed from their index, damaged ones are read through.

        Args:
            paths: rosbag2 folders, .mcap, .db3, either with .zstd, ROS 1 .bag files, or folders that hold several.
            topics: image topics; empty = the only one.
            several: with empty `topics`, take all image topics.

        Raises:
            DataError: a path is no recording, no message can be read, or a topic is not an image topic or not unique.
            MissingPackageError: rosbags is not installed.
        """
        recordings = [_list(source) for source in find_recordings(paths)]
        named = f"recording '{paths[0]}'" if len(paths) == 1 else f"{len(paths)} recordings ('{paths[0]}', ...)"
        readable = [recording for recording in recordings if any(file.topics for file in recording.files)]
        if not readable:
            reason = _reason(damage for recording in recordings for damage in _damage(recording))
            raise DataError(f"{named} cannot be read ({reason}); copy it again, or record it anew")
        found = _merged(recordings)
        return cls(recordings, _choose(named, found, topics, several), found)

    def images(self) -> Iterator[RecordedImage]:
        """Yield the images of the chosen topics, not decoded.

        Images come by time within a recording, and recordings in order of their start. Damaged files yield theirs in
        the order in which they lie in the file. Call it again for another pass.
        """
        numbers: Counter[str] = Counter()
        for recording, _, message in self.stored():
            topic, kind, is_ros1, log_ns, raw, _ = message
            stamp_ns = header_stamp(raw, is_ros1) or log_ns
            path = recording.path
            yield RecordedImage(topic, stamp_ns, log_ns, path, numbers[topic], kind, raw, is_ros1)
            numbers[topic] += 1

    def stored(self) -> Iterator[tuple[RecordingFiles, StorageFile, StoredMessage]]:
        """Yield each message behind `images` with its recording and file, for readers by index."""
        wanted = frozenset((camera.topic, camera.message_type) for camera in self.cameras)
        salvage = []
        for recording in self._recordings:
            kept, damage = 0, list(recording.source.damage)
            for file in recording.files:
                for message in read_storage(file, wanted, damage):
                    kept += 1
                    yield recording.source, file, message
            lost = _lost(recording, self.cameras, kept)
            if damage or lost:
                reason = _reason(damage) or "fewer images than the recorder counted"
                salvage.append(Salvage(recording.source.path, kept, lost, reason))
        self._salvage = tuple(salvage)

    def salvage(self) -> tuple[Salvage, ...]:
        """Return what the last complete pass kept and lost of damaged recordings; empty where nothing was damaged."""
        return self._salvage


def _list(source: RecordingFiles) -> _Recording:
    files = (list_storage(path) for path in source.files)
    return _Recording(source, tuple(sorted(files, key=lambda file: file.start_ns)))


def _damage(recording: _Recording) -> Iterator[str]:
    yield from recording.source.damage
    if not recording.files:
        yield "its folder holds no storage file"
    for file in recording.files:
        yield from file.damage or ("it holds no message",) * (not file.topics)


def _reason(damage: Sequence[str] | Iterator[str]) -> str:
    """The first clauses, and how many more there are."""
    clauses = list(dict.fromkeys(damage))
    more = f"; and {len(clauses) - 3} more" if len(clauses) > 3 else ""
    return "; ".join(clauses[:3]) + more


def _lost(recording: _Recording, cameras: Sequence[Camera], kept: int) -> int | None:
    """Images that were recorded and not read, by the metadata or else by the files' own counts."""
    if recording.source.written is not None:
        written = sum(recording.source.written.get(topic, 0) for topic in {camera.topic for camera in cameras})
        return max(0, written - kept)
    counts = [file.written for file in recording.files]
    if not counts or any(count is None for count in counts):
        return None
    keys = [(camera.topic, camera.message_type) for camera in cameras]
    return max(0, sum(count.get(key, 0) for count in counts if count is not None for key in keys) - kept)


def _merged(recordings: Sequence[_Recording]) -> list[TopicInfo]:
    """Topics over all recordings, sorted by name."""
    counts: dict[tuple[str, str], int | None] = {}
    for topic in (topic for recording in recordings for file in recording.files for topic in file.topics):
        key = topic.name, topic.message_type
        before = counts.get(key, 0)
        counts[key] = None if before is None or topic.count is None else before + topic.count
    return [TopicInfo(*key, counts[key]) for key in sorted(counts)]


def _choose(named: str, found: Sequence[TopicInfo], topics: Sequence[str], several: bool) -> list[Camera]:
    cameras = [
        Camera(topic.name, topic.message_type, topic.count) for topic in found if topic.message_type in IMAGE_TYPES
    ]
    names = list(dict.fromkeys(camera.topic for camera in cameras))
    listed = ", ".join(names)
    if not cameras:
        others = ", ".join(f"{topic.name} [{topic.message_type}]" for topic in found)
        raise DataError(
            f"{named} has no image topic, only {others}; expected messages of {' or '.join(IMAGE_TYPES)}, "
            "give another recording"
        )
    for topic in topics:
        if _absolute(topic) not in map(_absolute, names):
            raise DataError(f"{named} has no image topic '{topic}'; it has: {listed}")
    if not topics and not several and len(names) > 1:
        raise DataError(f"{named} has several image topics; give one of: {listed}")
    chosen = {_absolute(topic) for topic in topics or names}
    return [camera for camera in cameras if _absolute(camera.topic) in chosen]


def _absolute(topic: str) -> str:
    return "/" + topic.strip("/")
