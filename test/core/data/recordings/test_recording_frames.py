"""Recordings: rosbag2 and ROS 1, images by index."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from hrda_core.data.open_frames import open_unlabelled
from hrda_core.errors import DataError

STORE = get_typestore(Stores.ROS2_HUMBLE)
STORE1 = get_typestore(Stores.ROS1_NOETIC)
TOPIC = "/camera/image_raw"
IMAGE, COMPRESSED, TEXT = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "std_msgs/msg/String"
SECOND = 1_000_000_000


def _header(store: Any, number: int) -> Any:
    stamp = store.types["builtin_interfaces/msg/Time"](sec=number, nanosec=0)
    values = {"stamp": stamp, "frame_id": "camera"}
    return store.types["std_msgs/msg/Header"](**values, **({"seq": number} if store is STORE1 else {}))


def _picture(number: int) -> np.ndarray:
    """RGB, another for each number, no two channels alike."""
    image = np.zeros((6, 5, 3), np.uint8)
    image[..., 0], image[..., 1], image[0, 0, 2] = 10 * number, 100, 200
    return image


def _raw(number: int, encoding: str = "rgb8", padding: int = 0, store: Any = STORE) -> Any:
    rgb = _picture(number)
    pixels = {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": np.dstack([rgb, np.full((6, 5), 9, np.uint8)]),
        "bgra8": np.dstack([rgb[..., ::-1], np.full((6, 5), 9, np.uint8)]),
        "mono8": rgb[..., :1],
        "16UC1": rgb[..., :2],
    }[encoding]
    rows = np.pad(np.ascontiguousarray(pixels).reshape(6, -1), ((0, 0), (0, padding)), constant_values=77)
    return store.types[IMAGE](
        header=_header(store, number),
        height=6,
        width=5,
        encoding=encoding,
        is_bigendian=0,
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def _compressed(number: int, store: Any = STORE) -> Any:
    data = cv2.imencode(".png", _picture(number)[..., ::-1])[1].reshape(-1)
    return store.types[COMPRESSED](header=_header(store, number), format="bgr8; png compressed bgr8", data=data)


def _write(path: Path, topics: dict[str, list[tuple[int, Any]]], plugin: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """Topic -> (time in s, message); messages of all topics are interleaved by time."""
    with Writer2(path, version=8, storage_plugin=plugin) as writer:
        rows = []
        for topic, messages in topics.items():
            kind = messages[0][1].__msgtype__ if messages else IMAGE
            connection = writer.add_connection(topic, kind, typestore=STORE)
            rows += [(stamp, connection, STORE.serialize_cdr(message, kind)) for stamp, message in messages]
        for stamp, connection, data in sorted(rows, key=lambda row: row[0]):
            writer.write(connection, stamp * SECOND, data)
    return path


def _storage(bag: Path) -> Path:
    return next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("make", [_raw, _compressed])
def test_images_come_in_any_order(tmp_path: Path, plugin: StoragePlugin, make: Any) -> None:
    text = [(stamp, STORE.types[TEXT](data="x")) for stamp in range(9)]
    bag = _write(tmp_path / "bag", {"/text": text, TOPIC: [(n, make(n)) for n in range(6)]}, plugin)
    frames = open_unlabelled(bag)
    assert len(frames) == 6
    for index in (5, 0, 3, 3, 4):
        np.testing.assert_array_equal(frames.load(index), _picture(index))
    assert frames.describe() == f"6 images of topic '{TOPIC}' in recording '{bag}', 5.0 s"
    assert [size[1:] for size in frames.sizes()] == [(6, 5)]
    assert len(open_unlabelled(_storage(bag))) == 6
    (bag / "metadata.yaml").unlink()
    assert len(open_unlabelled(bag)) == 6


def test_a_copy_in_another_process_opens_the_recording_itself(tmp_path: Path) -> None:
    frames = open_unlabelled(_write(tmp_path / "bag", {TOPIC: [(n, _raw(n)) for n in range(3)]}))
    frames.load(1)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames)).load(2), _picture(2))


def test_images_of_one_time_are_told_apart(tmp_path: Path) -> None:
    frames = open_unlabelled(
        _write(tmp_path / "bag", {TOPIC: [(stamp, _raw(n)) for n, stamp in enumerate([1, 2, 2, 3])]})
    )
    assert [int(frames.load(index)[0, 0, 0]) for index in (2, 1, 3, 0)] == [20, 10, 30, 0]


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
@pytest.mark.parametrize("padding", [0, 3])
def test_every_usual_encoding_becomes_rgb(tmp_path: Path, encoding: str, padding: int) -> None:
    image = open_unlabelled(_write(tmp_path / "bag", {TOPIC: [(1, _raw(7, encoding, padding))]})).load(0)
    expected = np.repeat(_picture(7)[..., :1], 3, axis=2) if encoding == "mono8" else _picture(7)
    np.testing.assert_array_equal(image, expected)


def test_ros_1_recordings_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "drive.bag"
    with Writer1(path) as writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=STORE1)
        for number in range(4):
            message = _raw(number, store=STORE1)
            writer.write(connection, number * SECOND, STORE1.serialize_ros1(message, IMAGE))
    frames = open_unlabelled(path)
    np.testing.assert_array_equal(frames.load(3), _picture(3))
    assert len(frames) == 4


def test_several_image_topics_must_be_chosen_from(tmp_path: Path) -> None:
    bag = _write(tmp_path / "bag", {"/left": [(1, _raw(1))], "/right": [(1, _compressed(2)), (2, _compressed(3))]})
    with pytest.raises(DataError, match="give one of: /left, /right"):
        open_unlabelled(bag)
    with pytest.raises(DataError, match=r"no image topic '/rear'; it has: /left, /right"):
        open_unlabelled(bag, topic="/rear")
    np.testing.assert_array_equal(open_unlabelled(bag, topic="/right").load(1), _picture(3))


def test_recordings_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image topic"):
        open_unlabelled(_write(tmp_path / "text", {"/text": [(1, STORE.types[TEXT](data="x"))]}))
    with pytest.raises(DataError, match="holds no image"):
        open_unlabelled(_write(tmp_path / "none", {TOPIC: [], "/text": [(1, STORE.types[TEXT](data="x"))]}))


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("content", [b"", b"x" * 5000])
def test_a_recording_without_anything_readable_is_one_sentence(
    tmp_path: Path, plugin: StoragePlugin, content: bytes
) -> None:
    bag = _write(tmp_path / "bag", {TOPIC: [(n, _raw(n)) for n in range(4)]}, plugin)
    _storage(bag).write_bytes(content)
    with pytest.raises(DataError, match="cannot be read") as caught:
        open_unlabelled(bag)
    assert "\n" not in str(caught.value)


def test_garbled_metadata_are_told_and_the_images_are_read(tmp_path: Path) -> None:
    bag = _write(tmp_path / "bag", {TOPIC: [(n, _raw(n)) for n in range(4)]})
    (bag / "metadata.yaml").write_text("a: [")
    frames = open_unlabelled(bag)
    np.testing.assert_array_equal(frames.load(3), _picture(3))
    assert "damaged: metadata.yaml cannot be read" in frames.describe()


def test_an_image_that_does_not_decode_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    broken = _compressed(1)
    broken.data = broken.data[:20]
    short = _raw(2)
    short.data = short.data[:30]
    unknown = _raw(2)
    unknown.encoding = "rgb999"
    bag = _write(
        tmp_path / "bag", {"/a": [(0, _compressed(0)), (1, broken)], "/b": [(1, short), (2, unknown), (3, _raw(3))]}
    )
    frames = open_unlabelled(bag, topic="/a")
    with pytest.raises(DataError, match=r"image 1 of topic '/a'.*is not usable: .*cut off"):
        frames.load(1)
    np.testing.assert_array_equal(frames.load(0), _picture(0))
    frames = open_unlabelled(bag, topic="/b")
    with pytest.raises(DataError, match="needs 90 bytes, but the message holds 30"):
        frames.load(0)
    with pytest.raises(DataError, match="'rgb999' is not known; known are rgb8"):
        frames.load(1)
    assert frames.load(2).flags.writeable


@pytest.mark.parametrize(
    ("name", "count", "seconds"),
    [
        ("camvid_day_0006R0_mcap", 101, 100),
        ("camvid_dusk_0001TP_mcap", 62, 61),
        ("camvid_dusk_0001TP_sqlite3", 30, 29),
        ("camvid_day_raw_sqlite3", 8, 7),
        ("camvid_day_ros1.bag", 25, 24),
    ],
)
def test_recorded_drives_open_with_their_frames(shared_dir: Path, name: str, count: int, seconds: int) -> None:
    frames = open_unlabelled(shared_dir / "data" / "rosbags" / name)
    assert len(frames) == count
    assert f"{seconds}.0 s" in frames.describe()
    assert frames.load(count - 1).shape == frames.load(0).shape == (360, 480, 3)


def test_a_recorded_frame_is_the_image_that_was_recorded(shared_dir: Path) -> None:
    frames = open_unlabelled(shared_dir / "data" / "rosbags" / "camvid_dusk_0001TP_mcap")
    folder = open_unlabelled(shared_dir / "data" / "camvid" / "images" / "train")
    dusk = [index for index, name in enumerate(folder.files) if name.startswith("0001TP")]  # type: ignore[attr-defined]
    for place in (0, 40):
        difference = np.abs(frames.load(place).astype(int) - folder.load(dusk[place]).astype(int))
        assert difference.mean() < 1


def test_a_split_recording_without_metadata_is_read_in_order(tmp_path: Path) -> None:
    bag = _write(tmp_path / "bag", {TOPIC: [(n, _raw(n)) for n in (3, 4)]})
    (bag / "metadata.yaml").unlink()
    shutil.copy(_storage(_write(tmp_path / "other", {TOPIC: [(n, _raw(n)) for n in (1, 2)]})), bag / "z.mcap")
    frames = open_unlabelled(bag)
    assert [int(frames.load(index)[0, 0, 0]) for index in range(4)] == [10, 20, 30, 40]
