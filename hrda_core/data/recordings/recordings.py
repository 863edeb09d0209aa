"""Reads the camera images of recordings lazily, whatever state the recordings are in. Needs the package rosbags.

It reads rosbag2 (mcap, sqlite3, each plain or compressed by file, chunk or message) and ROS 1, in folders, files, or
several at once. Of a recording that is cut off, overwritten or without its metadata the readable images are read, and
`salvage` tells how many. One message is held at a time, so memory does not grow with the length of a recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from hrda_core.camera_areas import CameraArea, CameraAreas
from hrda_core.data.recordings.cameras import Camera, choose_cameras
from hrda_core.data.recordings.recorded_image import RecordedImage, header_stamp
from hrda_core.data.recordings.recorded_video import RecordedVideos
from hrda_core.data.recordings.recording_files import RecordingFiles, find_recordings
from hrda_core.data.recordings.recording_storage import (
    StorageFile,
    StoredMessage,
    TopicInfo,
    TopicKey,
    first_messages,
    list_storage,
    read_storage,
)
from hrda_core.data.recordings.salvage.findings import Salvage
from hrda_core.errors import DataError, ImageError, shown
from hrda_core.messages.picture_size import MAX_MEGAPIXELS
from hrda_core.messages.value_range import DeepPixels, ValueRange

_VIDEO_DAMAGE = "pictures of a video are damaged, or refer to one that is damaged or missing"

__all__ = ["Camera", "RecordedImage", "RecordingPart", "Recordings", "Salvage", "TopicInfo"]


@dataclass(frozen=True)
class _Recording:
    """A recording with its files, listed and in order of their start."""

    source: RecordingFiles
    files: tuple[StorageFile, ...]

    @property
    def start_ns(self) -> int:
        return min((file.start_ns for file in self.files if file.topics), default=2**63 - 1)


@dataclass(frozen=True)
class RecordingPart:
    """One of several recordings with the topics that were chosen over all of them. It can be pickled.

    Attributes:
        recording, cameras, every, value_range, areas, max_megapixels: as of `Recordings`.
    """

    recording: _Recording
    cameras: tuple[Camera, ...]
    every: bool
    value_range: ValueRange | None
    areas: Mapping[str, CameraArea]
    max_megapixels: int

    @property
    def path(self) -> Path:
        """The recording's folder or file."""
        return self.recording.source.path

    def open(self) -> Recordings:
        """Return the recording alone; its images count from 0."""
        return Recordings(
            [self.recording],
            [replace(camera, count=self._count(camera)) for camera in self.cameras],
            (),
            (),
            every=self.every,
            value_range=self.value_range,
            areas=self.areas,
            max_megapixels=self.max_megapixels,
        )

    def _count(self, camera: Camera) -> int | None:
        held = (topic for topic in _merged([self.recording]) if topic.name == camera.topic)
        return next((topic.count for topic in held if topic.message_type == camera.message_type), 0)


class Recordings:
    """Images of some topics of one or more recordings, made by `open`. No file stays open between two passes.

    Attributes:
        cameras: the topics whose images are read.
        topics: everything that the recordings hold.
        remarks: sentences on what was chosen or left out where nothing had been asked for; after a pass, also on
            packets of a video that come before its first key frame.
    """

    def __init__(
        self,
        recordings: Sequence[_Recording],
        cameras: Sequence[Camera],
        topics: Sequence[TopicInfo],
        remarks: Sequence[str],
        *,
        every: bool = False,
        value_range: ValueRange | None = None,
        areas: Mapping[str, CameraArea] | None = None,
        max_megapixels: int = MAX_MEGAPIXELS,
    ) -> None:
        self._areas = dict(areas or {})
        self._recordings = tuple(sorted(recordings, key=lambda recording: recording.start_ns))
        self._salvage: tuple[Salvage, ...] = ()
        self._chosen, self._every, self._max_megapixels = tuple(remarks), every, max_megapixels
        self.cameras, self.topics, self.remarks = tuple(cameras), tuple(topics), self._chosen
        self._early: Counter[str] = Counter()
        self._value_range = value_range
        self._value_remarks: dict[str, None] = {}
        self._values = {camera.topic: DeepPixels(value_range, self._remark_of(camera.topic)) for camera in self.cameras}

    def _remark_of(self, topic: str) -> Callable[[str], None]:
        def note(sentence: str) -> None:
            self._value_remarks[f"topic '{shown(topic)}': {sentence}"] = None

        return note

    @property
    def value_remarks(self) -> tuple[str, ...]:
        """Sentences on the pixels of 16 bits that were decoded so far, and how they became pictures."""
        return tuple(self._value_remarks)

    @property
    def range_grows(self) -> bool:
        """Whether pixels of 16 bits were decoded and no range was given: then theirs depends on those before."""
        return self._value_range is None and any(values.range is not None for values in self._values.values())

    @property
    def early(self) -> Mapping[str, int]:
        """Images of each topic that came before the first key frame of a video in the last complete pass."""
        return dict(self._early)

    def parts(self) -> tuple[RecordingPart, ...]:
        """Return each recording by itself, in the order of reading."""
        return tuple(
            RecordingPart(
                recording, self.cameras, self._every, self._value_range, dict(self._areas), self._max_megapixels
            )
            for recording in self._recordings
        )

    def note_pass(self, salvage: tuple[Salvage, ...], early: Counter[str], value_remarks: Iterable[str]) -> None:
        """Note what a pass over all `parts`, elsewhere, found, as `images` does."""
        self._salvage, self._early = salvage, early
        self._value_remarks |= dict.fromkeys(value_remarks)
        self.remarks = self._chosen + tuple(
            f"{count} images of topic '{shown(topic)}' come before the first key frame of the video and show nothing "
            "alone"
            for topic, count in early.items()
            if count
        )

    @classmethod
    def open(
        cls,
        paths: Sequence[Path],
        topics: Sequence[str] = (),
        *,
        several: bool = False,
        every: bool = False,
        value_range: ValueRange | None = None,
        areas: CameraAreas | None = None,
        max_megapixels: int = MAX_MEGAPIXELS,
    ) -> Recordings:
        """List recordings and choose topics. Whole files are listed from their index, damaged ones are read through.

        Args:
            paths: rosbag2 folders, .mcap, .db3, either with .zstd, ROS 1 .bag files, or folders that hold several.
            topics: image topics; empty = the only camera. Of the topics of one camera one is taken.
            several: with empty `topics`, take all cameras.
            every: with empty `topics`, take all image topics, also empty ones and those that cannot be read.
            value_range: values of 16-bit pixels that become 0 and 255; None = by the values, for each topic.
            areas: what of the pictures counts; the rest is cut off, see `RecordedImage.decode`.
            max_megapixels: compressed images whose header states more million pixels are not decoded.

        Raises:
            DataError: a path is no recording, no message can be read, a topic is not an image topic, there is no camera
                or more than one, or the areas are those of other topics or sizes.
            MissingPackageError: rosbags is not installed.
        """
        links: list[str] = []
        recordings = [_list(source) for source in find_recordings(paths, links)]
        named = f"recording '{paths[0]}'" if len(paths) == 1 else f"{len(paths)} recordings ('{paths[0]}', ...)"
        readable = [recording for recording in recordings if any(file.topics for file in recording.files)]
        if not readable:
            reason = _reason(damage for recording in recordings for damage in _damage(recording))
            raise DataError(f"{named} cannot be read ({reason}); copy it again, or record it anew")
        found = _merged(recordings)
        cameras, remarks = choose_cameras(
            named, found, topics, several=several, every=every, peek=lambda wanted: _first_images(recordings, wanted)
        )
        cut = {} if areas is None else areas.of([camera.topic for camera in cameras])
        first = _first_images(recordings, [(c.topic, c.message_type) for c in cameras if c.topic in cut])
        _check_sizes(first, cut, max_megapixels)
        return cls(
            recordings,
            cameras,
            found,
            [*links, *remarks],
            every=every,
            value_range=value_range,
            areas=cut,
            max_megapixels=max_megapixels,
        )

    def images(self) -> Iterator[RecordedImage]:
        """Yield the images of the chosen topics, not decoded; packets of a video as the pictures that begin in them.

        Images come by time within a recording, and recordings in order of their start. Damaged files yield theirs in
        the order in which they lie in the file. Pictures of a video come in the order in which they are shown. Call it
        again for another pass.

        Raises:
            MissingPackageError: a topic is a video, and PyAV is not installed. Where every topic was taken, the packets
                come out as they are.
        """
        numbers: Counter[str] = Counter()
        kept: Counter[Path] = Counter()
        videos = RecordedVideos(not self._every, self._max_megapixels)
        for image in chain(chain.from_iterable(map(videos.take, self._undecoded())), videos.end()):
            number, area = numbers[image.topic], self._areas.get(image.topic)
            yield replace(image, number=number, area=area, max_megapixels=self._max_megapixels)
            numbers[image.topic] += 1
            kept[image.recording] += 1
        found = {part.recording: part for part in _with_lost(self._salvage, videos.lost, kept)}
        in_order = (found.get(recording.source.path) for recording in self._recordings)
        self.note_pass(tuple(part for part in in_order if part is not None), videos.early, ())

    def _undecoded(self) -> Iterator[RecordedImage]:
        for recording, _, message in self.stored():
            topic, kind, is_ros1, log_ns, raw, _ = message
            stamp_ns = header_stamp(raw, is_ros1, kind) or log_ns
            values = self._values[topic]
            yield RecordedImage(topic, stamp_ns, log_ns, recording.path, 0, kind, raw, is_ros1, values=values)

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


def _with_lost(salvage: Sequence[Salvage], lost: Mapping[Path, int], kept: Mapping[Path, int]) -> Iterator[Salvage]:
    """What became of damaged recordings, with the pictures of their videos that were lost."""
    left = {path: count for path, count in lost.items() if count}
    for part in salvage:
        count = left.pop(part.recording, 0)
        if count:
            reason = f"{part.reason}; {_VIDEO_DAMAGE}"
            part = Salvage(part.recording, part.kept - count, None if part.lost is None else part.lost + count, reason)
        yield part
    for path, count in left.items():
        yield Salvage(path, kept[path], count, _VIDEO_DAMAGE)


def _list(source: RecordingFiles) -> _Recording:
    files = (list_storage(path) for path in source.files)
    return _Recording(source, tuple(sorted(files, key=lambda file: file.start_ns)))


def _first_images(recordings: Sequence[_Recording], wanted: Sequence[TopicKey]) -> dict[TopicKey, RecordedImage]:
    """The first image of each topic in the first file that holds one."""
    found: dict[TopicKey, RecordedImage] = {}
    keys = frozenset(wanted)
    for recording in sorted(recordings, key=lambda recording: recording.start_ns):
        for file in recording.files:
            held = {(topic.name, topic.message_type) for topic in file.topics if topic.count}
            for message in first_messages(file, (keys & held) - found.keys()):
                topic, kind, is_ros1, log_ns, raw, _ = message
                found[topic, kind] = RecordedImage(topic, log_ns, log_ns, recording.source.path, 0, kind, raw, is_ros1)
    return found


def _check_sizes(first: Mapping[TopicKey, RecordedImage], areas: Mapping[str, CameraArea], max_megapixels: int) -> None:
    """Refuse areas for pictures of another size; a first image that does not decode at all says nothing."""
    for (topic, _), image in first.items():
        _check_size(replace(image, area=areas[topic], max_megapixels=max_megapixels))


def _check_size(image: RecordedImage) -> None:
    try:
        image.decode()
    except ImageError as error:
        if error.cause == "area":
            raise DataError(f"topic '{shown(image.topic)}': {error}") from None


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
