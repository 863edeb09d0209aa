"""Frames for an adaptation come from each camera once, and what was chosen is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made_bag import START_NS, STORE
from made_scan import street
from rosbags.rosbag2 import StoragePlugin, Writer

from hrda_core.adaptation.stages.frames import Frames, choose_frames
from hrda_core.camera_areas import CameraAreas
from hrda_core.data.frame_selection.frame_selection import SelectionConfig
from hrda_core.errors import DataError

IMAGE = "sensor_msgs/msg/Image"


def write(writer: Writer, connections: Sequence[Any], number: int, stamp: int) -> None:
    """The image of a street at a place, with a stamp of its own, on some topics."""
    rgb = street(40 * number)
    time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=0)
    header = STORE.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")
    height, width = rgb.shape[:2]
    message = STORE.types[IMAGE](header, height, width, "rgb8", 0, 3 * width, rgb.reshape(-1))
    for connection in connections:
        writer.write(connection, START_NS + number * 10**9, STORE.serialize_cdr(message, IMAGE))


def test_a_camera_that_was_recorded_twice_is_adapted_on_once(tmp_path: Path) -> None:
    with Writer(tmp_path / "drive", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = ("/front/image_raw", "/front/image_raw/compressed")
        connections = [writer.add_connection(topic, IMAGE, typestore=STORE) for topic in topics]
        for number in range(24):
            write(writer, connections[: 1 + number % 2], number, START_NS + number * 10**9)
    said: list[str] = []

    frames = choose_frames(
        [tmp_path / "drive"], [], tmp_path / "frames", SelectionConfig(minimum=1), said.append, lambda *_: None
    )

    assert frames.selection["cameras"] == ["/front/image_raw"]
    assert (
        said[0] == "'/front/image_raw' (24 images) is read; of the same camera are '/front/image_raw/compressed' (12)"
    )


def test_frames_that_are_judged_on_lie_in_the_order_of_recording_where_the_clock_steps_back(tmp_path: Path) -> None:
    with Writer(tmp_path / "drive", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/front/image_raw", IMAGE, typestore=STORE)
        for number in range(40):
            write(writer, [connection], number, START_NS + (number - 9 * (number >= 36)) * 10**9)

    frames = choose_frames(
        [tmp_path / "drive"], [], tmp_path / "frames", SelectionConfig(), lambda _: None, lambda *_: None
    )

    rows = [row for row in frames.selection["rows"] if row["reason"] == "held_out"]
    assert [row["number"] for row in rows] == sorted(row["number"] for row in rows)
    assert [row["at_s"] for row in rows] == [float(row["number"]) for row in rows]
    assert [f"held_out/{file}" for file in frames.held_out.files] == [row["file"] for row in rows]
    assert list(frames.held_out.files) != sorted(frames.held_out.files), "their names follow the clock"


def test_frames_are_cut_to_what_counts_and_areas_for_another_size_are_refused_before_anything_is_read(
    tmp_path: Path,
) -> None:
    with Writer(tmp_path / "drive", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/front/image_raw", IMAGE, typestore=STORE)
        for number in range(24):
            write(writer, [connection], number, START_NS + number * 10**9)
    height, width = street(0).shape[:2]

    def frames(name: str, width: int) -> Frames:
        hood = f"[[0, {height - 20}], [{width}, {height - 20}], [{width}, {height}], [0, {height}]]"
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"/front/image_raw: {{size: [{width}, {height}], ego_vehicle: {hood}}}\n")
        folder, config = tmp_path / name, SelectionConfig(minimum=1)
        bags, areas = [tmp_path / "drive"], CameraAreas.read(path)
        return choose_frames(bags, [], folder, config, lambda _: None, lambda *_: None, areas=areas)

    found = frames("cut", width)
    assert {frame.shape for frame in map(found.adapt.load, range(len(found.adapt)))} == {(height - 20, width, 3)}
    whole = street(40 * 1)[: height - 20]
    assert any((found.adapt.load(index) == whole).all() for index in range(len(found.adapt)))
    with pytest.raises(DataError, match=f"the picture has {width}x{height} pixels, but the camera's area is for"):
        frames("other", width + 1)
    assert not (tmp_path / "other").exists()
