"""A made recording goes through the node and `hrda predict`, and gives the stored stamps, outcomes and masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_bag import TOPIC
from replay import CUT_OFF, expected, line, write_replay
from rosbags.highlevel import AnyReader
from served_node import served_node

from hrda_ros.model.segmenter import open_segmenter

STORED = (Path(__file__).with_name("replay.txt")).read_text().splitlines()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_replay(tmp_path_factory.mktemp("replay") / "drive")


def messages(recording: Path) -> list[Any]:
    """The messages of the recording as rclpy gives them."""
    from rclpy.serialization import deserialize_message
    from sensor_msgs.msg import Image

    with AnyReader([recording]) as reader:
        return [deserialize_message(bytes(raw), Image) for _, _, raw in reader.messages()]


def stamp_ns(header: Any) -> int:
    stamp: int = header.stamp.sec * 10**9 + header.stamp.nanosec
    return stamp


def pixels(mask: Any) -> np.ndarray:
    return np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)


def test_r1_the_stored_list_is_what_was_drawn() -> None:
    assert expected() == STORED
    assert len(STORED) == len(set(STORED)) == 60
    assert sum("published" in stored for stored in STORED) == 59


def test_p1_p2_r1_the_node_gives_the_stored_stamps_outcomes_and_masks(
    ros: Any, recording: Path, tiny_bundle: Path
) -> None:
    found = []
    with served_node("replay", open_segmenter, lazy=False, model=str(tiny_bundle), threads=1) as served:
        for message in messages(recording):
            before = served.counts()
            served.give(message)
            after = served.counts()
            if after.published == before.published:
                (cause,) = [f"{name}/{cause}" for (name, cause), n in after.causes.items() if n]
                found.append(line(stamp_ns(message.header), cause))
            else:
                found.append(line(stamp_ns(served.masks.headers[-1]), "published", served.masks.pixels[-1]))
    assert found == STORED


def test_p2_r1_over_dds_one_frame_at_a_time_the_node_gives_the_stored_masks_and_counts_the_broken_one(
    start_node: Callable[..., Any], client: Any, recording: Path, tiny_bundle: Path
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import Image

    process = start_node("-r", "__ns:=/replay", "-r", f"image:={TOPIC}", "-p", f"model:={tiny_bundle}")
    masks, diagnostics = (
        client.collect(Image, "/replay/segment_node/labels"),
        client.collect(DiagnosticArray, "/diagnostics"),
    )
    camera = client.camera(TOPIC)
    process.wait_for_log("segmenting images")
    client.meet("/replay/segment_node", camera, outputs=["/replay/segment_node/labels"])
    found = []
    for number, message in enumerate(messages(recording)):
        if number == CUT_OFF:
            client.refused(camera, {"short": message}, diagnostics, "/replay/segment_node")
            found.append(line(stamp_ns(message.header), "refused/short"))
        else:
            mask = client.exchange(camera, message, masks)
            found.append(line(stamp_ns(mask.header), "published", pixels(mask)))
    assert found == STORED
