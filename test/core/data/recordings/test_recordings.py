"""Whole recordings: formats, folders, topics, order, stamps."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from recorded import COMPRESSED, IMAGE, SECOND, START, STORE, STORE1, TEXT, TOPIC, image_message, noise, record
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionMode, StoragePlugin, Writer

from hrda_core.data.recordings.recorded_image import header_stamp
from hrda_core.data.recordings.recordings import Camera, RecordedImage, Recordings
from hrda_core.errors import DataError, ImageError


def seconds_of(images: Sequence[RecordedImage] | Any) -> list[int]:
    return [image.log_ns // SECOND - START for image in images]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("mcap", None),
        ("db3", None),
        ("bag", None),
        ("flat", None),
        ("zstd", None),
        ("lz4", None),
        ("mcap", CompressionMode.FILE),
        ("db3", CompressionMode.FILE),
        ("mcap", CompressionMode.MESSAGE),
        ("db3", CompressionMode.MESSAGE),
        ("mcap", CompressionMode.STORAGE),
    ],
)
def test_every_storage_format_gives_the_images_twice(tmp_path: Path, kind: str, mode: CompressionMode | None) -> None:
    file = record(tmp_path / "drive", kind, range(4), mode=mode)
    for path in {file, file.parent}:
        recordings = Recordings.open([path])
        assert recordings.cameras == (Camera(TOPIC, IMAGE, 4),)
        for _ in range(2):
            images = list(recordings.images())
            assert [image.number for image in images] == seconds_of(images) == [0, 1, 2, 3]
            assert [image.stamp_ns for image in images] == [image.log_ns for image in images]
            assert all(image.schema_is_ros1 == (kind == "bag") for image in images)
            np.testing.assert_array_equal(images[2].decode(), noise(2))
            assert recordings.salvage() == ()


def test_all_topics_are_listed_and_only_images_read(tmp_path: Path) -> None:
    file = record(tmp_path / "drive", "mcap", range(3))
    recordings = Recordings.open([file])
    assert [(topic.name, topic.message_type, topic.count) for topic in recordings.topics] == [
        (TOPIC, IMAGE, 3),
        ("/text", TEXT, 3),
    ]
    assert {image.topic for image in recordings.images()} == {TOPIC}


def test_the_stamp_of_the_header_is_read_without_decoding_and_a_missing_one_is_the_time_in_the_recording(
    tmp_path: Path,
) -> None:
    with Writer(tmp_path / "bag", version=8) as writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=STORE)
        for number, stamp in enumerate([5, 0]):
            data = STORE.serialize_cdr(image_message(number, stamp=stamp), IMAGE)
            writer.write(connection, (START + number) * SECOND, data)
    first, second = Recordings.open([tmp_path / "bag"]).images()
    assert (first.stamp_ns, first.log_ns) == (5 * SECOND, START * SECOND)
    assert second.stamp_ns == second.log_ns == (START + 1) * SECOND


@pytest.mark.parametrize("order", ["<", ">"])
def test_stamps_have_the_byte_order_of_their_message(order: str) -> None:
    assert header_stamp(bytes([0, order == "<", 0, 0]) + struct.pack(f"{order}iI", 7, 8), False) == 7 * SECOND + 8
    assert header_stamp(struct.pack("<III", 99, 7, 8), True) == 7 * SECOND + 8
    assert header_stamp(b"\0\1\0\0", False) == 0
    assert header_stamp(bytes([0, 1, 0, 0]) + struct.pack("<iI", -1, 8), False) == 0


def test_a_message_of_wrong_bytes_is_an_image_error() -> None:
    image = RecordedImage(TOPIC, 0, 0, Path("drive"), 0, IMAGE, b"\0\1\0\0" + bytes(7))
    with pytest.raises(ImageError) as caught:
        image.decode()
    assert caught.value.cause == "message"


@pytest.fixture
def two_cameras(tmp_path: Path) -> Path:
    path = tmp_path / "two"
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        left = writer.add_connection("/left", IMAGE, typestore=STORE)
        right = writer.add_connection("/right", COMPRESSED, typestore=STORE)
        for number in range(3):
            message = image_message(number)
            data = cv2.imencode(".png", noise(number)[..., ::-1])[1].reshape(-1)
            packed = STORE.types[COMPRESSED](header=message.header, format="png", data=data)
            writer.write(left, 2 * number * SECOND, STORE.serialize_cdr(message, IMAGE))
            writer.write(right, (2 * number + 1) * SECOND, STORE.serialize_cdr(packed, COMPRESSED))
    return path


def test_several_cameras_must_be_chosen_from_or_are_all_read(two_cameras: Path) -> None:
    with pytest.raises(DataError, match="several image topics; give one of: /left, /right"):
        Recordings.open([two_cameras])
    with pytest.raises(DataError, match="no image topic '/rear'; it has: /left, /right"):
        Recordings.open([two_cameras], ["/left", "/rear"])
    both = list(Recordings.open([two_cameras], several=True).images())
    assert [(image.topic, image.number) for image in both] == [
        (topic, number) for number in range(3) for topic in ("/left", "/right")
    ]
    for image in both:
        np.testing.assert_array_equal(image.decode(), noise(image.number))
    only = Recordings.open([two_cameras], ["right"])
    assert [camera.topic for camera in only.cameras] == ["/right"]
    assert {image.message_type for image in only.images()} == {COMPRESSED}


def test_a_split_recording_without_metadata_is_read_in_order_of_time(tmp_path: Path) -> None:
    folder = tmp_path / "drive"
    folder.mkdir()
    for name, numbers in (("a_0", range(4, 6)), ("a_10", range(2)), ("a_2", range(2, 4))):
        shutil.copy(record(tmp_path / name, "db3", numbers), folder / f"{name}.db3")
    recordings = Recordings.open([folder])
    images = list(recordings.images())
    assert [image.number for image in images] == seconds_of(images) == list(range(6))
    assert recordings.cameras[0].count == 6
    assert recordings.salvage() == ()


def test_several_recordings_and_folders_of_them_are_read_in_order_of_their_start(tmp_path: Path) -> None:
    (tmp_path / "drives").mkdir()
    record(tmp_path / "drives" / "later", "mcap", range(4, 6))
    record(tmp_path / "drives" / "first", "bag", range(2))
    other = record(tmp_path / "other", "db3", range(2, 4)).parent
    recordings = Recordings.open([tmp_path / "drives", other, other])
    images = list(recordings.images())
    assert seconds_of(images) == list(range(6))
    assert [image.recording.name for image in images[::2]] == ["first.bag", "other", "later"]


ALIASES = "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 20)}]" for i in range(1, 19))])
"""They stand for 20^18 values."""


@pytest.mark.parametrize("text", ["a: [", ALIASES], ids=["f5_cut_off", "f5_aliases"])
def test_metadata_that_cannot_be_read_lose_nothing_and_are_told(tmp_path: Path, text: str) -> None:
    folder = record(tmp_path / "drive", "mcap", range(3)).parent
    (folder / "metadata.yaml").write_text(text)
    recordings = Recordings.open([folder])
    assert seconds_of(recordings.images()) == [0, 1, 2]
    (salvage,) = recordings.salvage()
    assert (salvage.recording, salvage.kept, salvage.lost) == (folder, 3, 0)
    assert "metadata.yaml cannot be read" in salvage.reason


def test_a_missing_file_of_a_split_recording_is_told(tmp_path: Path) -> None:
    folder = record(tmp_path / "drive", "mcap", range(3)).parent
    metadata = folder / "metadata.yaml"
    text = metadata.read_text()
    assert "- drive.mcap" in text
    text = text.replace("- drive.mcap", "- drive.mcap\n  - drive_1.mcap").replace(
        "message_count: 3", "message_count: 5"
    )
    metadata.write_text(text)
    recordings = Recordings.open([folder])
    assert seconds_of(recordings.images()) == [0, 1, 2]
    (salvage,) = recordings.salvage()
    assert (salvage.kept, salvage.lost) == (3, 2)
    assert "file 'drive_1.mcap' is missing" in salvage.reason


def test_what_is_no_recording_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        Recordings.open([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="holds no recording"):
        Recordings.open([tmp_path])
    picture = tmp_path / "picture.png"
    picture.touch()
    with pytest.raises(DataError, match="no recording by its name"):
        Recordings.open([picture])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metadata.yaml").write_text("{}")
    with pytest.raises(DataError, match="holds no storage file"):
        Recordings.open([tmp_path / "empty"])
    with Writer(tmp_path / "text", version=8) as writer:
        connection = writer.add_connection("/text", TEXT, typestore=STORE)
        writer.write(connection, 1, STORE.serialize_cdr(STORE.types[TEXT](data="x"), TEXT))
    with pytest.raises(DataError, match=r"no image topic, only /text \[std_msgs/msg/String\]; expected"):
        Recordings.open([tmp_path / "text"])


@pytest.mark.parametrize("compression", list(Writer1.CompressionFormat))
def test_compressed_ros_1_recordings_are_read_whole_and_cut(
    tmp_path: Path, compression: Writer1.CompressionFormat
) -> None:
    path = tmp_path / "drive.bag"
    writer = Writer1(path)
    writer.set_compression(compression)
    with writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=STORE1)
        for number in range(200):
            data = STORE1.serialize_ros1(image_message(number, STORE1), IMAGE)
            writer.write(connection, (START + number) * SECOND, data)
    assert seconds_of(Recordings.open([path]).images()) == list(range(200))
    active = tmp_path / "drive.bag.active"
    active.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    recordings = Recordings.open([active])
    numbers = seconds_of(recordings.images())
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 97
    assert recordings.salvage()[0].kept == len(numbers)


@pytest.mark.parametrize("suffix", [".mcap", ".db3", ".bag"])
@pytest.mark.parametrize("content", [b"", b"x" * 5000, bytes(100_000), b"\x89MCAP0\r\n", b"#ROSBAG V2.0\n"])
def test_a_file_without_anything_readable_is_refused_in_one_sentence(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"drive{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"recording '.*' cannot be read \(.*; copy it again") as caught:
        Recordings.open([path])
    assert "\n" not in str(caught.value)
    assert ("empty" in str(caught.value)) == (not content)


def test_an_unreadable_file_beside_others_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    empty = tmp_path / "empty.mcap"
    empty.touch()
    recordings = Recordings.open([empty, record(tmp_path / "whole", "mcap", range(3))])
    assert len(list(recordings.images())) == 3
    (salvage,) = recordings.salvage()
    assert (salvage.recording, salvage.kept, salvage.reason) == (empty, 0, "the file is empty")


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
@pytest.mark.parametrize("kind", ["mcap", "db3"])
def test_a_cut_compressed_recording_gives_its_first_images(tmp_path: Path, kind: str, mode: CompressionMode) -> None:
    file = record(tmp_path / "bag", kind, range(60), mode=mode)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    recordings = Recordings.open([tmp_path / "bag"])
    numbers = seconds_of(recordings.images())
    assert numbers == list(range(len(numbers)))
    assert 15 < len(numbers) < 35
    (salvage,) = recordings.salvage()
    assert (salvage.kept, salvage.lost) == (len(numbers), 60 - len(numbers))
