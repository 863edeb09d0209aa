"""What the warning about a silent topic says of videos, without ROS."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hrda_ros.health.topic_watch import explain_silence

FOXGLOVE = "foxglove_msgs/msg/CompressedVideo"


def node_with(kind: str, name: str) -> Any:
    policy = SimpleNamespace(name="RELIABLE")
    profile = SimpleNamespace(reliability=policy, durability=policy)
    info = SimpleNamespace(topic_type=kind, qos_profile=profile, node_name="encoder", node_namespace="/")
    return SimpleNamespace(
        get_publishers_info_by_topic=lambda topic: [info] if topic == name else [],
        get_fully_qualified_name=lambda: "/segment_node",
        get_topic_names_and_types=lambda: [(name, [kind])],
    )


@pytest.mark.parametrize("kind", [FOXGLOVE, "ffmpeg_image_transport_msgs/msg/FFMPEGPacket"])
@pytest.mark.parametrize("name", ["/front", "/front/video"])
def test_a_video_is_named_with_what_to_do(kind: str, name: str) -> None:
    text = explain_silence(node_with(kind, name), "/front", "sensor_msgs/msg/Image", None, 5.0)

    assert kind.rpartition("/")[2] in text
    assert "a video, which is not decoded live: republish it as raw images" in text
    assert "large frames may be lost" not in text
