"""The one camera behind several transports is found without being named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_bag import START_NS, STORE
from recorded import COMPRESSED, IMAGE, image_message, noise
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg

from hrda_core.data.recordings.cameras import raw_topic
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.errors import DataError

THEORA = "theora_image_transport/msg/Packet"
if THEORA not in STORE.types:
    STORE.register(get_types_from_msg("std_msgs/Header header\nuint8[] data", THEORA))
RAW, PACKED = "/front/image_raw", "/front/image_raw/compressed"


def packed(topic: str) -> tuple[str, np.ndarray]:
    """Format and content as the transport of a topic writes them."""
    png = cv2.imencode(".png", noise(0))[1].reshape(-1)
    if topic.endswith("Depth"):
        return "16UC1; compressedDepth png", np.concatenate([np.zeros(12, np.uint8), png])
    if topic.endswith("zstd"):
        return "zstd", np.arange(40, dtype=np.uint8)
    return "rgb8; png compressed rgb8", png


def record_all(path: Path, counts: Mapping[str, int], plugin: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """A recording of topics with a number of messages each, the type by the end of the topic."""
    with Writer(path, version=8, storage_plugin=plugin) as writer:
        for topic, count in counts.items():
            last = topic.rpartition("/")[2]
            kind = {"theora": THEORA}.get(last, COMPRESSED if last.startswith(("compressed", "zstd")) else IMAGE)
            connection = writer.add_connection(topic, kind, typestore=STORE)
            for number in range(count):
                message = image_message(number)
                if kind == COMPRESSED:
                    form, data = packed(topic)
                    message = STORE.types[COMPRESSED](header=message.header, format=form, data=data)
                elif kind == THEORA:
                    message = STORE.types[THEORA](header=message.header, data=np.zeros(9, np.uint8))
                elif topic.startswith("/depth"):
                    message = image_message(number, encoding="32FC1", step=240, data=np.zeros(60 * 240, np.uint8))
                writer.write(connection, START_NS + number * 10**9, STORE.serialize_cdr(message, kind))
    return path


EVERYTHING = {
    RAW: 4,
    PACKED: 4,
    "/front/image_raw/compressedDepth": 4,
    "/front/image_raw/theora": 4,
    "/front/image_raw/zstd": 4,
    "/depth/image_raw": 4,
    "/rear/image_raw": 0,
}


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize(("raw", "compressed", "chosen"), [(4, 4, RAW), (4, 5, PACKED), (0, 5, PACKED), (4, 0, RAW)])
def test_the_transports_of_a_camera_are_one_and_the_fullest_is_read(
    tmp_path: Path, plugin: StoragePlugin, raw: int, compressed: int, chosen: str
) -> None:
    path = record_all(tmp_path / "all", {**EVERYTHING, RAW: raw, PACKED: compressed}, plugin)
    recordings = Recordings.open([path])
    assert [camera.topic for camera in recordings.cameras] == [chosen]
    assert len([image.decode() for image in recordings.images()]) == max(raw, compressed)
    told = " ".join(recordings.remarks)
    which = f"'{chosen}' ({max(raw, compressed)} images) is read; of the same camera"
    assert (which in told) == bool(raw and compressed)
    assert "'/front/image_raw/compressedDepth' cannot be read (a compressed image of format '16UC1; comp" in told
    assert "'/front/image_raw/zstd' cannot be read" in told
    assert "'/depth/image_raw' cannot be read (image encoding '32FC1' is not known" in told
    assert "'/rear/image_raw' holds no image" in told


def test_a_recording_without_its_end_is_chosen_from_alike(tmp_path: Path) -> None:
    file = next(record_all(tmp_path / "all", EVERYTHING).glob("*.mcap"))
    file.write_bytes(file.read_bytes()[:-100])
    assert [camera.topic for camera in Recordings.open([file]).cameras] == [RAW]


def test_each_camera_is_taken_once_where_several_are_wanted_and_each_topic_where_every_one_is(tmp_path: Path) -> None:
    path = record_all(tmp_path / "all", {**EVERYTHING, "/rear/image_raw": 4, "/rear/image_raw/compressed": 3})
    several = Recordings.open([path], several=True)
    assert [camera.topic for camera in several.cameras] == [RAW, "/rear/image_raw"]
    every = Recordings.open([path], every=True)
    images = [topic for topic in EVERYTHING if not topic.endswith("theora")]
    assert {camera.topic for camera in every.cameras} == {*images, "/rear/image_raw/compressed"}
    assert every.remarks == ()
    with pytest.raises(DataError, match=r"one of: /front/image_raw, /rear/image_raw; left out: '/depth/image_raw'"):
        Recordings.open([path])


def test_a_topic_that_is_named_is_read_whatever_it_is(tmp_path: Path) -> None:
    path = record_all(tmp_path / "all", EVERYTHING)
    for topic in (PACKED, "/front/image_raw/zstd", "/rear/image_raw"):
        assert [camera.topic for camera in Recordings.open([path], [topic]).cameras] == [topic]


def test_a_recording_without_any_picture_says_why(tmp_path: Path) -> None:
    path = record_all(tmp_path / "all", {"/depth/image_raw": 2, "/front/image_raw/zstd": 2, "/rear/image_raw": 0})
    with pytest.raises(DataError, match=r"no image topic of .* can be read: '/rear/image_raw' holds no image; '/de"):
        Recordings.open([path])


@pytest.mark.parametrize(
    ("topic", "raw"),
    [
        ("/front/image_raw/compressed", "/front/image_raw"),
        ("front/image_raw", "/front/image_raw"),
        ("/front/image_raw/ffmpeg", "/front/image_raw"),
        ("/compressed", "/compressed"),
        ("/front/compressed_view", "/front/compressed_view"),
    ],
)
def test_the_raw_topic_is_that_without_the_transport(topic: str, raw: str) -> None:
    assert raw_topic(topic) == raw
