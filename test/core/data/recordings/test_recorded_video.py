"""Recordings of videos, as image_transport, Foxglove and ffmpeg_image_transport write them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_bag import START_NS
from made_video import KEY_EVERY, Packet, packets, street_at
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from hrda_core.data.recordings.mask_recording import MaskBagWriter
from hrda_core.data.recordings.recording_frames import open_bag
from hrda_core.data.recordings.recordings import Recordings
from hrda_core.data.scan.scan import scan
from hrda_core.errors import DataError, MissingPackageError

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
FOXGLOVE, FFMPEG = "foxglove_msgs/msg/CompressedVideo", "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"
KINDS = {"compressed": COMPRESSED, "foxglove": FOXGLOVE, "ffmpeg": FFMPEG}
STORE, STORE1 = get_typestore(Stores.ROS2_HUMBLE), get_typestore(Stores.ROS1_NOETIC)
for store, time in ((STORE, "builtin_interfaces/Time"), (STORE1, "time")):
    fields = f"{time} timestamp\nstring frame_id\nuint8[] data\nstring format"
    store.register(get_types_from_msg(fields, FOXGLOVE))
STORE.register(
    get_types_from_msg(
        "std_msgs/Header header\nint32 width\nint32 height\nstring encoding\nuint64 pts\nuint8 flags\n"
        "bool is_bigendian\nuint8[] data",
        FFMPEG,
    )
)
STORE1.register(
    get_types_from_msg(
        "std_msgs/Header header\nuint8[] data\nint32 img_width\nint32 img_height\nstring encoding\nuint64 pts\n"
        "uint8 flags",
        FFMPEG,
    )
)


def message_of(transport: str, packet: Packet, codec: str, store: Any = STORE) -> Any:
    """A packet stamped with the time of its picture, 10 a second."""
    stamp = START_NS + packet.number * 10**8
    types = store.types
    time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    sequence = {"seq": packet.number} if store is STORE1 else {}
    header = types["std_msgs/msg/Header"](stamp=time, frame_id="front", **sequence)
    data = np.frombuffer(packet.data, np.uint8)
    if transport == "foxglove":
        return types[FOXGLOVE](timestamp=time, frame_id="front", data=data, format=codec.replace("hevc", "h265"))
    if transport == "compressed":
        return types[COMPRESSED](header=header, format=codec, data=data)
    size = (
        {"width": 128, "height": 96, "is_bigendian": False} if store is STORE else {"img_width": 128, "img_height": 96}
    )
    return types[FFMPEG](
        header=header, encoding=f"{codec};yuv420p;bgr8;bgr8", pts=packet.number, flags=0, data=data, **size
    )


def record(path: Path, transport: str, stream: Sequence[Packet], codec: str = "h264") -> Path:
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(f"/front/{transport}", KINDS[transport], typestore=STORE)
        for number, packet in enumerate(stream):
            raw = STORE.serialize_cdr(message_of(transport, packet, codec), KINDS[transport])
            writer.write(connection, START_NS + number * 10**8, raw)
    return path


def record_ros1(path: Path, transport: str, stream: Sequence[Packet]) -> Path:
    with Writer1(path) as writer:
        connection = writer.add_connection(f"/front/{transport}", KINDS[transport], typestore=STORE1)
        for number, packet in enumerate(stream):
            raw = STORE1.serialize_ros1(message_of(transport, packet, "h264", STORE1), KINDS[transport])
            writer.write(connection, START_NS + number * 10**8, raw)
    return path


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("transport", list(KINDS))
def test_a_video_gives_its_pictures_with_their_own_stamps(tmp_path: Path, transport: str, codec: str) -> None:
    path = record(tmp_path / "drive", transport, packets(codec), codec)
    recordings = Recordings.open([path])

    for _ in range(2):
        images = list(recordings.images())
        assert [image.number for image in images] == list(range(30))
        assert [image.stamp_ns for image in images] == [START_NS + number * 10**8 for number in range(30)]
        assert all(image.header == (image.stamp_ns // 10**9, image.stamp_ns % 10**9, "front") for image in images)
        assert np.abs(images[17].decode().astype(int) - street_at(17)).mean() < 8
        assert recordings.salvage() == recordings.remarks == ()


@pytest.mark.parametrize("transport", list(KINDS))
def test_a_video_of_ros_1_gives_its_pictures(tmp_path: Path, transport: str) -> None:
    images = list(Recordings.open([record_ros1(tmp_path / "drive.bag", transport, packets("h264"))]).images())

    assert [image.stamp_ns for image in images] == [START_NS + number * 10**8 for number in range(30)]
    assert images[5].header[2] == "front"
    assert np.abs(images[17].decode().astype(int) - street_at(17)).mean() < 8


def test_what_is_lost_and_what_comes_before_the_first_key_frame_is_said(tmp_path: Path) -> None:
    stream = packets("h264", b_frames=0)
    hurt = [*stream[4:13], *stream[14:]]  # begins in the middle, and lacks number 13
    recordings = Recordings.open([record(tmp_path / "drive", "ffmpeg", hurt)])

    found = scan(recordings, analyse_hz=10)

    (camera,) = found.cameras
    assert len(camera.stamps_ns) == len(camera.frames) == 30 - KEY_EVERY - 7
    assert camera.encodings == ("h264;yuv420p;bgr8;bgr8",)
    assert camera.sizes == ((128, 96),)
    (salvage,) = found.salvage
    assert (salvage.kept, salvage.lost) == (13, 6)
    assert "pictures of a video are damaged" in salvage.reason
    assert found.remarks == (
        "6 images of topic '/front/ffmpeg' come before the first key frame of the video and show nothing alone",
    )


def test_what_was_kept_of_a_damaged_video_is_told_of_its_own_recording(tmp_path: Path) -> None:
    stream = packets("h264", b_frames=0)
    record(tmp_path / "a", "ffmpeg", stream)
    record(tmp_path / "b", "ffmpeg", [*stream[:13], *stream[14:]])

    (salvage,) = scan(Recordings.open([tmp_path])).salvage

    assert salvage.recording.name == "b"
    assert salvage.kept + (salvage.lost or 0) == 29


def test_each_of_several_recordings_begins_its_video_anew(tmp_path: Path) -> None:
    stream = packets("h264", b_frames=0)
    paths = [record(tmp_path / name, "foxglove", stream[:count]) for name, count in (("a", 15), ("b", 30))]
    assert len(list(Recordings.open(paths).images())) == 45


def test_without_pyav_one_sentence_says_what_to_install_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = record(tmp_path / "drive", "foxglove", packets("h264"))
    monkeypatch.setitem(sys.modules, "av", None)

    with pytest.raises(MissingPackageError, match=r"'av' is needed here .*pip install av, .*\.\[video\]"):
        list(Recordings.open([path]).images())
    found = scan(Recordings.open([path], every=True))
    assert {frame.cause for frame in found.cameras[0].frames} == {"video"}


def test_a_codec_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = record(tmp_path / "drive", "foxglove", packets("h264")[:3], "av1")
    found = scan(Recordings.open([path]), analyse_hz=10)
    assert [frame.cause for frame in found.cameras[0].frames] == ["codec"] * 3


def test_what_wants_frames_in_any_order_or_copies_messages_refuses_a_video(tmp_path: Path) -> None:
    path = record(tmp_path / "drive", "ffmpeg", packets("h264"))
    with pytest.raises(DataError, match="is a video, whose frames cannot be read in any order; 'hrda adapt'"):
        open_bag(path)
    image = next(Recordings.open([path]).images())
    writer = MaskBagWriter(tmp_path / "masks", {"/front/ffmpeg": "/front"}, "{}")
    with pytest.raises(DataError, match="packets of a video, which are not copied; leave --copy_camera out"):
        writer.copy_image(image)
    writer.write_masks(image, {"labels": np.zeros((96, 128), np.uint8)})
    writer.close()
    (mask,) = Recordings.open([tmp_path / "masks"]).images()
    assert mask.header == image.header
