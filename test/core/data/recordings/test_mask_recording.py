"""Recordings of masks, read back by rosbags alone."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability
from rosbags.typesys import Stores, get_typestore

from hrda_core.data.recordings.mask_recording import MaskBagWriter, camera_names
from hrda_core.data.recordings.recorded_image import RecordedImage
from hrda_core.errors import DataError

STORES = {False: get_typestore(Stores.ROS2_HUMBLE), True: get_typestore(Stores.ROS1_NOETIC)}
TOPIC = "/camera/front/image_raw"
IMAGE = "sensor_msgs/msg/Image"
GENERATOR = np.random.default_rng(3)


def _camera_image(topic: str = TOPIC, sec: int = 7, *, ros1: bool = False, frame_id: str = "front") -> Any:
    store = STORES[ros1]
    stamp = store.types["builtin_interfaces/msg/Time"](sec=sec, nanosec=42)
    header = store.types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id, **({"seq": 9} if ros1 else {}))
    pixels = np.arange(24, dtype=np.uint8)
    message = store.types[IMAGE](
        header=header, height=2, width=4, encoding="rgb8", is_bigendian=0, step=12, data=pixels
    )
    raw = store.serialize_ros1(message, IMAGE) if ros1 else store.serialize_cdr(message, IMAGE)
    log_ns = sec * 10**9 + 500
    return RecordedImage(topic, sec * 10**9 + 42, log_ns, Path("bag"), 0, IMAGE, bytes(raw), ros1)


def _read(path: Path) -> dict[str, list[tuple[int, Any]]]:
    """Topic -> (time in the recording, message)."""
    found: dict[str, list[tuple[int, Any]]] = {}
    with AnyReader([path]) as reader:
        for connection, log_ns, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            found.setdefault(connection.topic, []).append((log_ns, message))
    return found


@pytest.mark.parametrize("ros1", [False, True])
@pytest.mark.parametrize("frame_id", ["front", "", "größe"])
def test_masks_have_the_header_and_the_time_of_their_image(tmp_path: Path, ros1: bool, frame_id: str) -> None:
    labels = GENERATOR.integers(0, 19, (5, 7), np.uint8)
    color = GENERATOR.integers(0, 255, (5, 7, 3), np.uint8)
    with MaskBagWriter(tmp_path / "bag", camera_names([TOPIC]), "{}") as writer:
        writer.write_masks(_camera_image(ros1=ros1, frame_id=frame_id), {"labels": labels, "color": color})
    found = _read(tmp_path / "bag")
    for name, encoding, expected in (("labels", "mono8", labels), ("color", "rgb8", color)):
        ((log_ns, message),) = found[f"/camera/front/segmentation/{name}"]
        assert log_ns == 7 * 10**9 + 500
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (7, 42)
        assert message.header.frame_id == frame_id
        assert (message.encoding, message.height, message.width) == (encoding, 5, 7)
        assert message.step * message.height == expected.size
        assert message.data.tobytes() == expected.tobytes()


def test_a_big_endian_header_is_read(tmp_path: Path) -> None:
    image = _camera_image()
    image = replace(image, raw=b"\x00\x00\x00\x00" + struct.pack(">iII", 3, 4, 4) + b"cam\x00" + bytes(20))
    with MaskBagWriter(tmp_path / "bag", camera_names([TOPIC]), "{}") as writer:
        writer.write_masks(image, {"labels": np.zeros((2, 2), np.uint8)})
    header = _read(tmp_path / "bag")["/camera/front/segmentation/labels"][0][1].header
    assert (header.stamp.sec, header.stamp.nanosec, header.frame_id) == (3, 4, "cam")


def test_label_info_is_latched_and_written_once_before_the_masks_of_each_camera(tmp_path: Path) -> None:
    topics = ["/front/image", "/rear/image"]
    with MaskBagWriter(tmp_path / "bag", camera_names(topics), '{"classes": []}') as writer:
        for sec in (1, 2):
            for topic in topics:
                writer.write_masks(_camera_image(topic, sec), {"labels": np.zeros((2, 2), np.uint8)})
    found = _read(tmp_path / "bag")
    for camera in ("front", "rear"):
        ((log_ns, message),) = found[f"/{camera}/segmentation/label_info"]
        assert log_ns == found[f"/{camera}/segmentation/labels"][0][0]
        assert message.data == '{"classes": []}'
    with AnyReader([tmp_path / "bag"]) as reader:
        profiles = [c.ext.offered_qos_profiles for c in reader.connections if c.topic.endswith("label_info")]
    assert [[qos.durability for qos in profile] for profile in profiles] == [[QosDurability.TRANSIENT_LOCAL]] * 2


def test_the_recording_has_the_version_that_all_distributions_read(tmp_path: Path) -> None:
    with MaskBagWriter(tmp_path / "bag", camera_names([TOPIC]), "{}") as writer:
        writer.write_masks(_camera_image(), {"labels": np.zeros((2, 2), np.uint8)})
    information = yaml.safe_load((tmp_path / "bag/metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (information["version"], information["storage_identifier"]) == (8, "mcap")


def test_chunks_are_compressed(tmp_path: Path) -> None:
    with MaskBagWriter(tmp_path / "bag", camera_names([TOPIC]), "{}") as writer:
        for sec in range(4):
            writer.write_masks(_camera_image(sec=sec), {"labels": np.zeros((500, 500), np.uint8)})
    assert sum(path.stat().st_size for path in (tmp_path / "bag").iterdir()) < 50_000


@pytest.mark.parametrize("ros1", [False, True])
def test_the_camera_image_is_copied(tmp_path: Path, ros1: bool) -> None:
    with MaskBagWriter(tmp_path / "bag", camera_names([TOPIC]), "{}") as writer:
        writer.copy_image(_camera_image(TOPIC.strip("/") if ros1 else TOPIC, ros1=ros1))
    ((_, message),) = _read(tmp_path / "bag")[TOPIC]
    assert (message.header.stamp.sec, message.header.frame_id, message.encoding) == (7, "front", "rgb8")
    assert message.data.tobytes() == bytes(range(24))


def test_bytes_of_ros1_that_are_no_image_are_not_copied(tmp_path: Path) -> None:
    image = _camera_image(ros1=True)
    with MaskBagWriter(tmp_path / "bag", camera_names([TOPIC]), "{}") as writer:
        writer.copy_image(image)
        image = replace(image, raw=image.raw[:-5])
        writer.copy_image(image)
    assert len(_read(tmp_path / "bag")[TOPIC]) == 1


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="exists already"):
        MaskBagWriter(tmp_path, {}, "{}")


def test_an_error_closes_the_file_without_metadata(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with MaskBagWriter(tmp_path / "bag", camera_names([TOPIC]), "{}") as writer:
            writer.write_masks(_camera_image(), {"labels": np.zeros((2, 2), np.uint8)})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert not (tmp_path / "bag/metadata.yaml").exists()


@pytest.mark.parametrize(
    ("topics", "names"),
    [
        (["/camera/front/image_raw/compressed"], ["/camera/front"]),
        (["/camera/front/image_rect_color"], ["/camera/front"]),
        (["/camera/front"], ["/camera/front"]),
        (["image"], [""]),
        (["camera/image_raw"], ["/camera"]),
        (["/a/image_raw", "/a/image_rect", "/b/image"], ["/a/image_raw", "/a/image_rect", "/b/image"]),
        (["/a/image", "/a/image/compressed"], ["/a/image", "/a/image/compressed"]),
    ],
)
def test_f11_a_camera_is_named_after_its_topic(topics: list[str], names: list[str]) -> None:
    assert list(camera_names(topics).values()) == names


_PART = st.sampled_from(["image", "image_raw", "front", "rear", "compressed"])


@given(st.sets(st.lists(_PART, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts)), max_size=6))
def test_f11_no_two_topics_are_one_camera(topics: set[str]) -> None:
    names = camera_names(sorted(topics))
    assert len(set(names.values())) == len(topics)
