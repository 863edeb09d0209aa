"""Reads camera images of a recording by index: rosbag2 (folder, .mcap, .db3) and ROS 1 (.bag). Needs rosbags.

The messages are listed once, without decoding an image. An image is then found by its time in the recording, or, in
the salvaged part of a damaged one, by its place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hrda_core.data.frames import PerProcess, UnlabelledFrames, evenly_spaced
from hrda_core.data.image_files import UInt8Array
from hrda_core.data.recordings.recorded_image import RecordedImage
from hrda_core.data.recordings.recording_files import unpacked
from hrda_core.data.recordings.recording_storage import (
    StorageFile,
    StoredMessage,
    TopicKey,
    open_reader,
    read_open,
    read_place,
)
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.errors import DataError, HrdaError, ImageError, one_line
from hrda_core.messages.picture_size import MAX_MEGAPIXELS
from hrda_core.messages.value_range import FULL_RANGE, DeepPixels, PixelValues, ValueRange

__all__ = ["BagFrames", "open_bag"]

_RANGE_FRAMES = 8  # frames that the range of 16-bit pixels is measured on


@dataclass(frozen=True)
class BagFrames(UnlabelledFrames):
    """The images of one topic of a recording.

    Attributes:
        path: path of the recording.
        topic: image topic.
        damage: what is damaged and how many images that cost; empty = nothing.
        types: topic and message type, as recorded.
        files: storage files that hold images.
        index: int64 (N, 4): number of the file, time in the recording in ns, place in a damaged file (-1 = find by
            time), and its number among the messages of that time.
        values: turns pixels of 16 bits into bytes.
        remark: sentence on such pixels; empty = there are none.
    """

    path: Path
    topic: str
    damage: str
    types: tuple[TopicKey, ...] = field(compare=False, repr=False)
    files: tuple[StorageFile, ...] = field(compare=False, repr=False)
    index: npt.NDArray[np.int64] = field(compare=False, repr=False)
    values: PixelValues = field(default=FULL_RANGE, compare=False, repr=False)
    remark: str = ""
    max_megapixels: int = field(default=MAX_MEGAPIXELS, compare=False, repr=False)
    _readers: PerProcess[_Readers] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_readers", PerProcess(_Readers))

    def __len__(self) -> int:
        return len(self.index)

    def load(self, index: int) -> UInt8Array:
        index = range(len(self))[index]
        number, log_ns, place, turn = (int(value) for value in self.index[index])
        where = f"image {index} of topic '{self.topic}' in recording '{self.path}'"
        with self._readers.use() as readers, _as_data_error(where):
            for message in readers.messages(self.files[number], self.types, log_ns, place):
                if not turn:
                    image = RecordedImage(
                        message.topic,
                        log_ns,
                        log_ns,
                        self.path,
                        index,
                        message.message_type,
                        message.raw,
                        message.is_ros1,
                        values=self.values,
                        max_megapixels=self.max_megapixels,
                    ).decode()
                    return image if image.flags.writeable else image.copy()
                turn -= 1
        raise DataError(f"{where} is not there any more; was the recording changed?")

    def describe(self) -> str:
        seconds = float(np.ptp(self.index[:, 1])) / 1e9
        damage = f"; damaged: {self.damage}" if self.damage else ""
        return f"{len(self)} images of topic '{self.topic}' in recording '{self.path}', {seconds:.1f} s{damage}" + (
            f"; {self.remark}" if self.remark else ""
        )

    def sizes(self) -> Iterator[tuple[str, int, int]]:
        height, width = self.load(0).shape[:2]
        yield f"{self.path} image 0", height, width


class _Readers:
    """Open readers of storage files, each opened at its first use."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._storage: dict[Path, Path] = {}
        self._open: dict[Path, Any] = {}

    def messages(
        self, file: StorageFile, types: tuple[TopicKey, ...], log_ns: int, place: int
    ) -> Iterator[StoredMessage]:
        """Messages of a time, in order."""
        if file.path not in self._storage:
            self._storage[file.path] = self._stack.enter_context(unpacked(file.path, []))
        storage = self._storage[file.path]
        if place >= 0:
            found = read_place(file, storage, types, place)
            return (message for message in found if message.log_ns == log_ns)
        if file.path not in self._open:
            reader = self._open[file.path] = open_reader(storage)
            self._stack.callback(reader.close)
        return read_open(self._open[file.path], storage, types, [], log_ns)

    def close(self) -> None:
        self._stack.close()


def open_bag(
    path: Path, topic: str = "", value_range: ValueRange | None = None, max_megapixels: int = MAX_MEGAPIXELS
) -> BagFrames:
    """List the images of a recording; of a damaged one, those that can be read.

    Args:
        path: rosbag2 folder, .mcap, .db3 or .bag file, or a folder of several recordings.
        topic: image topic; empty = the only one.
        value_range: values of 16-bit pixels that become 0 and 255; None = by the values of some images.
        max_megapixels: compressed images whose header states more million pixels cannot be read.

    Raises:
        DataError: nothing can be read, or the topic is not an image topic or not unique, or it holds no image.
        MissingPackageError: rosbags is not installed.
    """
    recordings = Recordings.open([path], [topic] if topic else [])
    chosen = recordings.cameras[0].topic
    numbers: dict[Path, int] = {}
    files: list[StorageFile] = []
    rows: list[tuple[int, int, int, int]] = []
    before, turn = (-1, 0, 0), 0
    for recording, file, message in recordings.stored():
        if not rows:
            _refuse_video(message, recording.path)
        if file.path not in numbers:
            numbers[file.path] = len(files)
            files.append(file)
        key = numbers[file.path], message.log_ns, message.place
        turn = turn + 1 if key == before else 0
        before = key
        rows.append((*key, turn))
    if not rows:
        raise DataError(f"topic '{chosen}' of recording '{path}' holds no image; give another recording or topic")
    types = tuple((camera.topic, camera.message_type) for camera in recordings.cameras)
    frames = BagFrames(path, chosen, _damage(recordings), types, tuple(files), np.asarray(rows, np.int64))
    return _measured(replace(frames, max_megapixels=max_megapixels), value_range)


def _measured(frames: BagFrames, given: ValueRange | None) -> BagFrames:
    """The frames with the range of their pixels of 16 bits. It is measured on some of them, and then stays: training
    loads frames in any order and in several processes."""
    said: list[str] = []
    measuring = replace(frames, values=DeepPixels(given, said.append))
    for place in evenly_spaced(range(len(frames)), _RANGE_FRAMES):
        with suppress(HrdaError):  # whoever needs the frame will say so
            measuring.load(place)
        if not isinstance(measuring.values, DeepPixels) or measuring.values.range is None:
            break
    found = measuring.values.range if isinstance(measuring.values, DeepPixels) else None
    remark = "; ".join(said[-1:])
    return frames if found is None else replace(frames, values=found, remark=remark)


def _refuse_video(message: StoredMessage, path: Path) -> None:
    image = RecordedImage(message.topic, 0, message.log_ns, path, 0, message.message_type, message.raw, message.is_ros1)
    with suppress(ImageError):
        if image.video_packet() is not None:
            raise DataError(
                f"topic '{image.topic}' of recording '{path}' is a video, whose frames cannot be read in any order; "
                f"'hrda adapt' and 'hrda predict' read it, or write its frames as image files and give their folder"
            )


def _damage(recordings: Recordings) -> str:
    parts = recordings.salvage()
    lost = [part.lost for part in parts]
    count = "an unknown number of" if None in lost else str(sum(number for number in lost if number is not None))
    return f"{'; '.join(part.reason for part in parts)}; {count} images lost" if parts else ""


@contextmanager
def _as_data_error(where: str) -> Iterator[None]:
    """rosbags lets struct, zstd, SQLite and file errors of a damaged recording through as they are."""
    try:
        yield
    except DataError:
        raise
    except HrdaError as error:
        raise DataError(f"{where} is not usable: {error}") from error
    except Exception as error:
        raise DataError(f"{where} cannot be read ({one_line(error)}); copy it again, or record it anew") from error
