"""Chooses the image topics of recordings that are read.

A recording of everything (`ros2 bag record -a`) holds one camera several times, once for each image transport, and
topics without an image or with images that are no pictures. Image transports publish below the topic of the raw
images, which tells what belongs together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hrda_core.data.recordings.recorded_image import IMAGE, IMAGE_TYPES, RecordedImage
from hrda_core.data.recordings.recording_storage import TopicInfo, TopicKey
from hrda_core.errors import DataError, ImageError, MissingPackageError, require, shown, some_of
from hrda_core.messages.video import video_codec

__all__ = ["Camera", "choose_cameras", "raw_topic"]

_TRANSPORTS = ("compressed", "compressedDepth", "zstd", "theora", "ffmpeg", "foxglove", "h264", "h265", "hevc", "av1")
"""Last parts of the topics that image transports add."""
_MOST_CAMERAS = 64
_MOST_SENTENCES = 20
_OF_ANOTHER_KIND = ("codec", "encoding")
"""Causes of an `ImageError` that say that a message is sound, but no picture that is read here."""

Peek = Callable[[Sequence[TopicKey]], Mapping[TopicKey, RecordedImage]]


@dataclass(frozen=True)
class Camera:
    """A topic whose images are read.

    Attributes:
        topic: its name.
        message_type: one of `IMAGE_TYPES`.
        count: number of images over all recordings, of a damaged one those that can be read; None where not known.
    """

    topic: str
    message_type: str
    count: int | None


def choose_cameras(
    named: str, found: Sequence[TopicInfo], topics: Sequence[str], *, several: bool, every: bool, peek: Peek
) -> tuple[list[Camera], list[str]]:
    """Return the topics to read, and sentences on what was chosen where nothing had been said.

    Args:
        named: what the recordings are called in errors.
        found: all topics.
        topics: topics that were asked for; empty = the only camera, or with `several` each one.
        several: whether there may be several cameras.
        every: with empty `topics`, take every image topic as it is.
        peek: gives the first image of topics.

    Raises:
        DataError: a topic is not an image topic, or there is no camera, or more than one.
    """
    cameras = [
        Camera(topic.name, topic.message_type, topic.count) for topic in found if topic.message_type in IMAGE_TYPES
    ]
    names = some_of(list(dict.fromkeys(camera.topic for camera in cameras)))
    if not cameras:
        others = some_of([f"{topic.name} [{topic.message_type}]" for topic in found])
        raise DataError(
            f"{named} has no image topic, only {others}; expected messages of {' or '.join(IMAGE_TYPES)}, "
            "give another recording"
        )
    for topic in topics:
        if _absolute(topic) not in {_absolute(camera.topic) for camera in cameras}:
            raise DataError(f"{named} has no image topic '{shown(topic)}'; it has: {names}")
    if topics:
        chosen = {_absolute(topic) for topic in topics}
        return [camera for camera in cameras if _absolute(camera.topic) in chosen], []
    return (cameras, []) if every else _found(named, cameras, several, peek)


def _found(named: str, cameras: Sequence[Camera], several: bool, peek: Peek) -> tuple[list[Camera], list[str]]:
    """One topic of each camera that can be read."""
    filled = [camera for camera in cameras if camera.count != 0]
    left_out = [f"'{shown(camera.topic)}' holds no image" for camera in cameras if camera.count == 0]
    # One camera needs no look: reading it says what is wrong, and a packed file would be unpacked once more for it.
    # Of more cameras than any robot has, each look costs time, and a person has to choose anyway.
    few = 1 < len(filled) <= _MOST_CAMERAS
    first = peek([(camera.topic, camera.message_type) for camera in filled]) if few else {}
    readable = []
    for camera in filled:
        image = first.get((camera.topic, camera.message_type))
        reason = "" if image is None else _unreadable(image)
        if reason:
            left_out.append(f"'{shown(camera.topic)}' cannot be read ({reason})")
        else:
            readable.append(camera)
    chosen, remarks = _one_of_each(readable)
    if not chosen:
        raise DataError(f"no image topic of {named} can be read: {_some(left_out)}; give another recording")
    if len(chosen) > 1 and not several:
        others = f"; left out: {_some(left_out)}" if left_out else ""
        listed = some_of([camera.topic for camera in chosen])
        raise DataError(f"{named} has several image topics; give one of: {listed}{others}")
    return chosen, remarks + left_out[:_MOST_SENTENCES]


def _some(sentences: Sequence[str]) -> str:
    more = f"; and {len(sentences) - _MOST_SENTENCES} more" if len(sentences) > _MOST_SENTENCES else ""
    return "; ".join(sentences[:_MOST_SENTENCES]) + more


def _one_of_each(cameras: Sequence[Camera]) -> tuple[list[Camera], list[str]]:
    """Of the topics of one camera that with the most images, of equal ones the raw one, and what is said about it."""
    groups: dict[str, list[Camera]] = {}
    for camera in cameras:
        groups.setdefault(raw_topic(camera.topic), []).append(camera)
    chosen, remarks = [], []
    for group in groups.values():
        best = max(group, key=lambda camera: (camera.count or 0, -IMAGE_TYPES.index(camera.message_type)))
        chosen.append(best)
        others = [f"'{shown(camera.topic)}' ({camera.count})" for camera in group if camera is not best]
        if others:
            remarks.append(
                f"'{shown(best.topic)}' ({best.count} images) is read; of the same camera are {', '.join(others)}"
            )
    return chosen, remarks


def _unreadable(image: RecordedImage) -> str:
    """Why images like this one are no pictures that can be read; empty if they are, or if this one is damaged."""
    packet = None
    try:
        packet = None if image.message_type == IMAGE else image.video_packet()
        if packet is None or not video_codec(packet.codec):
            image.decode()
        else:
            require("av", "video")
    except MissingPackageError as error:
        return str(error) if packet else ""
    except ImageError as error:
        return str(error) if error.cause in _OF_ANOTHER_KIND else ""
    return ""


def raw_topic(topic: str) -> str:
    """Return the topic that image transports derive theirs from: `/front/image` for `front/image/compressed`."""
    base, _, last = _absolute(topic).rpartition("/")
    return base if base and last in _TRANSPORTS else _absolute(topic)


def _absolute(topic: str) -> str:
    return "/" + topic.strip("/")
